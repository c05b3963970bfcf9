// Drive the page as a reader does, and note what it says.
(async () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const text = (panel) => one(`[data-panel=${panel}] .figures`).textContent;
  const cells = (panel) => all(`[data-panel=${panel}] td`).map((cell) => cell.textContent);
  const drawn = async (act) => {
    const before = document.body.dataset.ready;
    act();
    await new Promise((go) => { const ask = () => (document.body.dataset.ready !== before ? go() : setTimeout(ask, 20)); ask(); });
  };
  const key = (box, name) => box.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const pointer = (box, type, x, y, more = {}) => {
    const at = box.getBoundingClientRect();
    box.dispatchEvent(new PointerEvent(type, { clientX: at.left + x * at.width, clientY: at.top + y * at.height, bubbles: true, pointerType: "mouse", ...more }));
  };
  const slide = (name, value) => { const input = one(`#set-${name}`); input.value = value; input.dispatchEvent(new Event("input")); };
  const seen = { lang: document.documentElement.lang };
  seen.start = [text("scene"), text("vectors"), text("scale"), cells("softmax").slice(0, 4)];
  const [image, near] = [one("[data-panel=scene] .pick"), all("[data-panel=vectors] .pick")[1]];
  seen.named = all(".field").every((field) => field.getAttribute("aria-label"));
  image.focus();
  await drawn(() => key(image, "ArrowLeft"));
  seen.arrow = [text("scene"), location.hash, one("#spoken").textContent, document.activeElement === image];
  await drawn(() => pointer(image, "pointerdown", 0.3, 0.3));
  await drawn(() => pointer(image, "pointermove", 0.99, 0.02));
  seen.drag = text("scene");
  pointer(image, "pointerup", 0.99, 0.02);
  pointer(image, "pointermove", 0.5, 0.5);
  await drawn(() => pointer(near, "click", 0.01, 0.99));
  seen.key = [text("scene") === seen.drag, one("[data-panel=vectors] .pick .spot.key").style.top, location.hash];
  await drawn(() => one("#bar button").click()); // start again
  seen.again = [text("scene"), location.hash];
  await drawn(() => slide("scale", 1));
  seen.sharp = text("scale");
  await drawn(() => one("[data-panel=heads] figure:nth-child(4) input").click());
  seen.off = cells("heads");
  await drawn(() => one("[data-panel=positions] input").click());
  seen.positions = [text("scene"), location.hash];
  await drawn(() => one("[data-panel=positions] input").click());
  await drawn(() => slide("shift", 1));
  seen.shift = cells("copied").slice(0, 10);
  await drawn(() => one("[data-panel=copied] .choices button:nth-child(2)").click());
  seen.absolute = cells("copied").slice(5, 10);
  await drawn(() => slide("read", 12));
  seen.read = text("online");
  await drawn(() => slide("gamma", 0));
  seen.gamma = [cells("graft"), text("graft")];
  await drawn(() => one("[data-panel=cost] .choices button").click());
  seen.cost = cells("cost");
  await drawn(() => { const images = one("#bar select"); images.selectedIndex = 3; images.dispatchEvent(new Event("change")); });
  seen.image = [text("scene"), location.hash, one("#other").hash === location.hash];
  await drawn(() => { location.hash = "#image=1&query=34&head=0&theme=dark&form=nonsense&gamma=7&read=x"; });
  seen.hash = [text("scene"), document.documentElement.dataset.theme, one("#set-gamma").value, one("#set-read").value];
  await drawn(() => one("#theme").click());
  seen.theme = document.documentElement.dataset.theme;
  seen.canvases = all("figure .field canvas").map((canvas) => canvas.dataset.drawn === "1" && canvas.width > 0);
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.problem = one("#problem").hidden;

  return seen;
})();
