"""The command line. Nothing heavy is imported before the command that needs it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from attngraft.cli import detector, fit, retrieve, study
from attngraft.cli.groups import PLUGIN, Commands, Words, announce
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="attngraft")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--plugin", "plugins", **PLUGIN)
@click.pass_context
def main(context: click.Context, debug: bool, plugins: tuple[str, ...]) -> None:
    """Put attention mechanisms into YOLO detectors, and find out honestly whether they helped.

    A recipe is BASE+MECHANISM(options)@PLACE, such as yolo11n+mhsa@P5 or yolov8s.pt+ema(groups=8)@P3,P4. All
    Ultralytics options are accepted: attngraft train model=yolo11n+mhsa@P5 data=my.yaml epochs=50 imgsz=640.
    """
    announce(context, context.command.params[0], plugins)


for _command in [*detector.commands(), detector.export, study.study, fit.fit, retrieve.retrieve]:
    main.add_command(_command)


@main.command()
@click.argument("base", type=Words("graft"))
@click.argument("grafts")
@click.argument("more", nargs=-1, metavar="[output=FILE.pt]")
@output_option("The checkpoint to write, a .pt file.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def graft(base: str, grafts: str, more: tuple[str, ...], output: Path | None, overwrite: bool) -> None:
    """Write a grafted checkpoint for the command yolo of Ultralytics.

    attngraft graft yolo11n.pt mhsa@P5 -o grafted.pt, then yolo detect train model=grafted.pt data=my.yaml
    """
    from attngraft.cli import pairs

    options = pairs.parse(more)
    target = pairs.take(options, "graft", "output", "out", given=output)
    pairs.require_known("graft", options, ["output"])
    if target is None:
        raise click.UsageError("Missing option '-o' / '--output': the checkpoint to write, as in: -o grafted.pt")
    from attngraft.yolo import graft as write

    file = write(base, grafts, Path(target), overwrite=overwrite)
    click.echo(f"{file} written; use it as model={file} with yolo or attngraft")


@main.command()
@words_argument("card", "CHECKPOINT.pt KEY=VALUE ...")
@output_option("File to write; the next free name is taken if it exists.", "README.md beside the checkpoint")
def card(words: tuple[str, ...], output: Path | None) -> None:
    r"""Write a model card: grafts, data, figures, verdict, cost, licence.

    \b
    attngraft card runs/detect/train/weights/best.pt study=runs/study/fruit
    attngraft card best.pt study=runs/study/fruit arm=mhsa@P5 -o card.md

    Its front matter is what Hugging Face reads. The verdict is that of the arm with the model's grafts.
    """
    from attngraft.cli.share import run_card

    run_card(words, output)


@main.command()
@words_argument("diff", "CHECKPOINT.pt base=BASE.pt ...")
@output_option("File to write, .safetensors.", "the checkpoint's name with .safetensors")
def diff(words: tuple[str, ...], output: Path | None) -> None:
    r"""Write the grafts of a checkpoint without its base.

    \b
    attngraft diff best.pt base=yolo11n.pt -o mhsa.safetensors

    Whatever differs from the base is in it, and the base's checksum. Small where the base was frozen (freeze=).
    """
    from attngraft.cli.share import run_diff

    run_diff(words, output)


@main.command()
@words_argument("apply", "FILE.safetensors base=BASE.pt ...")
@output_option("Checkpoint to write, .pt.", "the file's name with .pt")
def apply(words: tuple[str, ...], output: Path | None) -> None:
    r"""Put the grafts of a file onto their base, and write the checkpoint.

    \b
    attngraft apply mhsa.safetensors base=yolo11n.pt -o grafted.pt

    Another base than the one that the file was taken from is refused.
    """
    from attngraft.cli.share import run_apply

    run_apply(words, output)


@main.command("list")
@click.argument("pattern", default="*")
def list_mechanisms(pattern: str) -> None:
    """List the mechanisms, or those whose name matches PATTERN, such as '*psa*'."""
    from attngraft.cli.zoo import print_list

    print_list(pattern)


@main.command()
@click.argument("name", type=Words("show"))
def show(name: str) -> None:
    """Show one mechanism: formula, options, cost, paper and known deviations."""
    from attngraft.cli.zoo import print_card

    print_card(name)


@main.command()
@words_argument("doctor", "MECHANISM | FILE.py:CLASS | MODULE:CLASS | model=RECIPE KEY=VALUE ...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def doctor(words: tuple[str, ...], as_json: bool) -> None:
    r"""Find what would break later: in training, on several GPUs, after a reload, in export.

    \b
    attngraft doctor model=yolo11n+ema@P4 imgsz=640 batch=16 data=my.yaml
    attngraft doctor model=runs/detect/train/weights/best.pt
    attngraft doctor my_attention.py:MyAttention channels=128 heads=4

    About a minute for a small detector; a mechanism alone takes its own options too. Exits with status 1 if a check
    fails.
    """
    from attngraft.cli.doctor import run_doctor

    sys.exit(run_doctor(words, as_json=as_json))


@main.command()
@words_argument("look", "MODEL IMAGE ... KEY=VALUE ...")
@output_option("File to write: .html, .png, .svg or .npz; the next free name is taken if it exists.", "look.html")
@click.option("--serve", is_flag=True, help="Serve the page on 127.0.0.1 instead, and compute the row of any cell.")
def look(words: tuple[str, ...], output: Path | None, serve: bool) -> None:
    r"""See what the attention mixed, what each detection rests on, and what the grafts do.

    \b
    attngraft look best.pt image.jpg
    attngraft look best.pt image.jpg image2.jpg base=yolo11n.pt scores=True -o seen.html
    attngraft look best.pt image.jpg detection=2 -o figure.svg
    attngraft look best.pt image.jpg --serve
    attngraft look best.pt clip.mp4 frame=30 detection=1 -o followed.mp4

    Writes one page that needs no network, a contact sheet of one detection (.png, .svg), or all arrays (.npz).
    Keys: base, scores, imgsz, confidence, limit, layers; image and detection choose what a contact sheet shows, frame
    and detection what is followed through a video, port where the page is served, language=en or zh what words are in.
    """
    from attngraft.cli.look import run_look

    run_look(words, output, live=serve)


@main.command()
@words_argument("bench", "model=RECIPE ... | LIST.txt | KEY=VALUE ...")
@output_option("Folder to fill; the next free name is taken if it exists.", "attngraft-bench")
def bench(words: tuple[str, ...], output: Path | None) -> None:
    r"""Measure what models cost, side by side: parameters, FLOPs, memory, latency.

    \b
    attngraft bench model=yolo11n model=yolo11n+mhsa@P5 imgsz=640
    attngraft bench yolo11n yolo11n+ema@P4 train=True backends=eager,compiled,onnxruntime,openvino,tensorrt

    Ratios are against the first. Writes bench.json and bench.png to a new folder.
    """
    from attngraft.cli.bench import run_bench

    run_bench(words, output)


@main.command()
@words_argument("probe", "MECHANISM | FILE.py:CLASS | MODULE:CLASS ... KEY=VALUE ...", required=False)
@click.option("--all", "everyone", is_flag=True, help="Probe every mechanism there is.")
@output_option("Folder with records and report; what it holds already is added to.", "runs/probe")
def probe(words: tuple[str, ...], everyone: bool, output: Path | None) -> None:
    r"""Find out what a mechanism can learn at all: distance, look-up, relation, comparison, counting.

    \b
    attngraft probe mhsa ema
    attngraft probe "mhsa(position=none)" my_attention.py:MyAttention probes=relbig,reach seeds=5
    attngraft probe --all seeds=1 parallel=4

    One small detector is trained with each mechanism on generated images whose answer is known, and with none. What is
    finished is kept, so that the same command resumes, and a folder alone (-o) is reported again. Keys: probes, seeds,
    controls, parallel, epochs, images. Exits with status 1 if a run failed.
    """
    from attngraft.cli.probe import run_probe

    sys.exit(run_probe(words, output, everyone=everyone))


@main.command()
@output_option("Folder to fill; the next free name is taken if it exists.", "runs/demo")
@click.option("--device", default="cpu", show_default=True, help="The device of Ultralytics, such as cpu or 0.")
@click.option("--parallel", type=click.IntRange(1), default=2, show_default=True, help="Runs at once.")
@click.option("--rule", type=click.Choice(["global", "local"]), default="global", help="What tells an object's class.")
def demo(output: Path | None, device: str, parallel: int, rule: str) -> None:
    """Study attention on built-in data, in miniature: six small training runs, under 5 minutes on two cores."""
    from attngraft.cli.demo import run_demo

    run_demo(output or Path("runs/demo"), device=device, parallel=parallel, rule=rule)  # type: ignore[arg-type]


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the script that lets SHELL complete commands, keys, values, mechanisms and places.

    \b
    eval "$(attngraft completion bash)"                                    in ~/.bashrc
    eval "$(attngraft completion zsh)"                                     in ~/.zshrc, after compinit
    attngraft completion fish > ~/.config/fish/completions/attngraft.fish
    """
    from click.shell_completion import get_completion_class

    import attngraft.cli.shells  # noqa: F401 (registers them)

    found = get_completion_class(shell)
    assert found is not None  # one of the choices
    click.echo(found(main, {}, "attngraft", "_ATTNGRAFT_COMPLETE").source())
