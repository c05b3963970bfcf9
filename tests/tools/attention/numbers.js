// Ask the arithmetic of the page for rows and mixtures of some cells; ASKED is put in by the test.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const weights = { ...data, qkv: floats(data.qkv), height: floats(data.height), width: floats(data.width) };
  const found = [], out = [];
  for (const scene of data.scenes) for (let head = 0; head < data.heads; head++) {
    const vectors = attention.vectors(weights, floats(scene.x), head);
    for (const i of ASKED) {
      for (const [form, scale] of [["relative"], ["none"], ["absolute"], ["copied", 1], ["relative", 1]])
        found.push(...attention.row(weights, vectors, i, form, scale).weights);
      const { logits } = attention.row(weights, vectors, i, "relative"), { total, out: mixed } = attention.online(logits, vectors, 12, 12);
      out.push(...mixed.map((v) => v / total));
    }
  }
  return [found, out].map((all) => btoa(Array.from(new Uint8Array(Float32Array.from(all).buffer), (c) => String.fromCharCode(c)).join("")));
})();
