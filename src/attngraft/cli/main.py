"""The command line. Nothing heavy is imported before the command that needs it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from attngraft._core.errors import FitError, OptionError, PlanError, RecipeError, UnknownNameError

DONE, FAILURE, USAGE = 0, 1, 2
MISUSES = (FitError, OptionError, RecipeError, PlanError, UnknownNameError, SyntaxError)
"""Errors that another command line would not have."""
HOST_VERBS = {
    "train": "Train a recipe: attngraft train model=yolo11n+mhsa@P5 data=my.yaml epochs=50",
    "val": "Validate a model: attngraft val model=best.pt data=my.yaml",
    "predict": "Predict on images or video: attngraft predict model=best.pt source=images/",
    "track": "Track objects in a video: attngraft track model=best.pt source=video.mp4",
    "tune": "Search hyperparameters: attngraft tune model=yolo11n+mhsa@P5 data=my.yaml iterations=30",
}
PLUGIN: dict[str, Any] = {
    "multiple": True,
    "metavar": "FILE.py",
    "help": "A file with mechanisms of your own; repeatable, before or after the command.",
}


def _announce(_: click.Context, __: click.Parameter, plugins: tuple[str, ...]) -> None:
    from attngraft._core.plugins import announce

    for plugin in plugins:
        announce(plugin)


class Commands(click.Group):
    """The group of commands, with one way to end for every error."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command that takes --plugin too; the mark that keeps lines apart may stand in a raw docstring."""
        cmd.params.append(click.Option(["--plugin"], callback=_announce, expose_value=False, **PLUGIN))
        cmd.help = (cmd.help or "").replace("\\b\n", "\b\n")
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what it raises into one sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt as stopped:
            go_on = "; it goes on with: attngraft train model=.../last.pt resume=True"
            plain = "stopped" + (go_on if ctx.invoked_subcommand == "train" else "")
            click.echo(f"attngraft: {stopped if stopped.args else plain}", err=True)
            sys.exit(FAILURE)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"attngraft: {_sentence(error)}", err=True)
            sys.exit(USAGE if isinstance(error, MISUSES) else FAILURE)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="attngraft")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--plugin", "plugins", **PLUGIN)
@click.pass_context
def main(context: click.Context, debug: bool, plugins: tuple[str, ...]) -> None:
    """Put attention mechanisms into YOLO detectors, and find out honestly whether they helped.

    A recipe is BASE+MECHANISM(options)@PLACE, such as yolo11n+mhsa@P5 or yolov8s.pt+ema(groups=8)@P3,P4. Keys are the
    host's own: attngraft train model=yolo11n+mhsa@P5 data=my.yaml epochs=50 imgsz=640.
    """
    _announce(context, context.command.params[0], plugins)


def _host_verb(verb: str, about: str) -> click.Command:
    @click.argument("pairs", nargs=-1, metavar="KEY=VALUE ...")
    def run(pairs: tuple[str, ...]) -> None:
        from attngraft.cli.host import run_verb

        run_verb(verb, pairs)

    run.__doc__ = f"{about}\n\nEvery key of Ultralytics is taken as it is; results land in its runs/ folder."
    return click.command(verb)(run)


for _verb, _about in HOST_VERBS.items():
    main.add_command(_host_verb(_verb, _about))


@main.command()
@click.argument("pairs", nargs=-1, metavar="KEY=VALUE ...")
def export(pairs: tuple[str, ...]) -> None:
    """Export a model and hold the file against it: attngraft export model=best.pt format=onnx dynamic=True.

    Every format and key of Ultralytics. Pictures of source= or data= (or generated ones) go through the model and the
    file; the largest deviation of boxes and scores is printed and stored beside the file, and one over the bound ends
    with 1 and keeps the file aside as *.rejected.
    """
    from attngraft.cli.host import run_export

    run_export(pairs)


@main.command()
@click.argument("base")
@click.argument("grafts")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="The checkpoint to write, a .pt file."
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def graft(base: str, grafts: str, out: Path, overwrite: bool) -> None:
    """Write a grafted checkpoint for the stock yolo command.

    attngraft graft yolo11n.pt mhsa@P5 -o grafted.pt, then yolo detect train model=grafted.pt data=my.yaml
    """
    from attngraft.yolo import graft as write

    file = write(base, grafts, out, overwrite=overwrite)
    click.echo(f"{file} written; use it as model={file} with yolo or attngraft")


@main.command("list")
@click.argument("pattern", default="*")
def list_mechanisms(pattern: str) -> None:
    """List the mechanisms, or those whose name matches PATTERN, such as '*psa*'."""
    from attngraft.cli.zoo import print_list

    print_list(pattern)


@main.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one mechanism: formula, options, cost, paper and known deviations."""
    from attngraft.cli.zoo import print_card

    print_card(name)


@main.command()
@click.argument("words", nargs=-1, metavar="MECHANISM | FILE.py:CLASS | model=RECIPE KEY=VALUE ...", required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def doctor(words: tuple[str, ...], as_json: bool) -> None:
    r"""Find what would break later: in training, on several GPUs, after a reload, in export.

    \b
    attngraft doctor model=yolo11n+ema@P4 imgsz=640 batch=16 data=my.yaml
    attngraft doctor model=runs/detect/train/weights/best.pt
    attngraft doctor my_attention.py:MyAttention channels=128 heads=4

    About a minute for a small detector; a mechanism alone takes its own options too. Ends with 1 if a check fails.
    """
    from attngraft.cli.doctor import run_doctor

    sys.exit(run_doctor(words, as_json=as_json))


@main.command()
@click.argument("words", nargs=-1, metavar="model=RECIPE ... | LIST.txt | KEY=VALUE ...", required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("attngraft-bench"), help="Folder to fill.")
def bench(words: tuple[str, ...], out: Path) -> None:
    r"""Measure what models cost, side by side: parameters, FLOPs, memory, latency.

    \b
    attngraft bench model=yolo11n model=yolo11n+mhsa@P5 imgsz=640
    attngraft bench yolo11n yolo11n+ema@P4 train=True backends=eager,compiled,onnxruntime,openvino,tensorrt

    Ratios are against the first. Writes bench.json and bench.png to a new folder.
    """
    from attngraft.cli.bench import run_bench

    run_bench(words, out)


@main.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("attngraft-demo"), help="Folder to fill.")
@click.option("--device", default="cpu", show_default=True, help="The host's device, such as cpu or 0.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Trainings at once.")
@click.option("--rule", type=click.Choice(["global", "local"]), default="global", help="What tells an object's class.")
def demo(out: Path, device: str, workers: int, rule: str) -> None:
    """Study attention on built-in data, in miniature: six small trainings, under 5 minutes on two cores."""
    from attngraft.cli.demo import run_demo

    run_demo(out, device=device, workers=workers, rule=rule)  # type: ignore[arg-type]


@main.command()
@click.argument(
    "words",
    nargs=-1,
    metavar="PLAN.yaml | KEY=VALUE ... | status|resume|report FOLDER | search KEY=VALUE ...",
    required=True,
)
@click.option("--dry-run", is_flag=True, help="Print arms, runs, time and disk, and run nothing.")
def study(words: tuple[str, ...], dry_run: bool) -> None:
    r"""Find out whether arms beat the stock model on your data, and how sure that is.

    \b
    attngraft study data=fruit.yaml base=yolo11n arms=mhsa@P5,ema@P4 seeds=5 epochs=50
    attngraft study plan.yaml workers=2
    attngraft study plan.yaml engine=ray address=auto gpus=0.5
    attngraft study resume studies/plan
    attngraft study search mechanisms=mhsa,eca,se places=P3,P4,P5 winners=2 data=fruit.yaml epochs=50

    Keys are the plan's and the host's training options; folder=, workers= (runs at once), engine=, address= and gpus=
    say how it is carried out; train.KEY=VALUE always means the host's. Ends with 1 if a run failed.
    """
    from attngraft.cli.study import run_study

    sys.exit(run_study(words, dry_run=dry_run))


@main.command()
@click.argument("words", nargs=-1, metavar="KEY=VALUE ... | predict KEY=VALUE ... | val KEY=VALUE ...", required=True)
def fit(words: tuple[str, ...]) -> None:
    r"""Train a network of the papers: BoTNet, DilateFormer, FLatten, HAT, and what detects with them.

    \b
    attngraft fit model=botnet50 data=flowers epochs=60 imgsz=128
    attngraft fit model=fasterrcnn_botnet50 data=coco/annotations/instances_train2017.json preset=paper devices=8
    attngraft fit model=hat_s data=photos scale=4 model.channels=60
    attngraft fit resume=runs/fit/botnet50
    attngraft fit val model=runs/fit/botnet50 split=test
    attngraft fit predict model=runs/fit/botnet50 source=pictures

    Data are a folder with train/ and val/ (classify: a folder a class in them; superres: pictures, or hr/ and lr/),
    COCO's JSON or YOLO's data.yaml (detect, segment). What is not given comes from preset=small or preset=paper, and
    is written out in fit.yaml.
    """
    from attngraft.cli.fit import run_fit

    run_fit(words)


def _sentence(error: Exception) -> str:
    """Say an error in as few lines as it has meaning."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, RecipeError):
        return text  # with the caret under the character
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    plain = " ".join(text.replace("ERROR ❌️", "").replace("❌", "").split())
    known = type(error).__module__.startswith("attngraft") or isinstance(error, (OSError, SyntaxError))
    return plain if known else f"{plain} ({type(error).__name__}; --debug before the command shows the traceback)"
