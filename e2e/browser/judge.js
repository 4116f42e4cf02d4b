// What is wrong with the page, as a list of sentences. This is what axe and
// its like look for first; nothing of it can be seen in the HTML alone.
(() => {
  const found = [];
  const say = (text) => found.push(text);
  const name = (el) => `<${el.tagName.toLowerCase()}> "${(el.innerText || el.value || el.name || el.id || "").trim().slice(0, 40)}"`;
  const visible = (el) => el.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && el.getClientRects().length > 0;
  const hidden = (el) => !!el.closest(".visually-hidden, .skip, [hidden], noscript");

  // Nothing is wider than the screen, except what can be scrolled by itself.
  if (document.documentElement.scrollWidth > window.innerWidth) {
    const wide = [...document.querySelectorAll("main *")].filter((el) => el.getBoundingClientRect().right > window.innerWidth + 1).slice(0, 3);
    say(`the page is ${document.documentElement.scrollWidth} wide on ${window.innerWidth}: ${wide.map(name).join(", ")}`);
  }
  for (const card of document.querySelectorAll(".card")) {
    const edge = card.getBoundingClientRect().right + 1;
    const over = [...card.querySelectorAll("*")].find((el) => visible(el) && !el.closest("pre, .visually-hidden, thead") && el.getBoundingClientRect().right > edge);
    if (over) say(`${name(over)} sticks out of its card`);
  }
  for (const el of document.querySelectorAll("pre, .places")) {
    const style = getComputedStyle(el);
    if (el.scrollWidth > el.clientWidth + 1 && !["auto", "scroll"].includes(style.overflowX)) say(`${name(el)} is cut off`);
    if (el.scrollWidth > el.clientWidth + 1 && el.matches("pre") && el.tabIndex < 0) say(`${name(el)} scrolls, and no keyboard reaches it`);
  }

  // Every control has a name and can be hit by a finger.
  for (const el of document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href]")) {
    if (!visible(el) || hidden(el)) continue;
    const text = el.getAttribute("aria-label") || el.innerText || [...(el.labels ?? [])].map((l) => l.innerText).join(" ") || el.querySelector("img[alt]")?.alt;
    if (!text?.trim()) say(`${name(el)} has no name`);
    const box = el.getBoundingClientRect();
    const inText = el.matches("a") && getComputedStyle(el).display === "inline";
    const inLabel = !!el.closest("label");
    if (!inText && !inLabel && (box.width < 24 || box.height < 24)) say(`${name(el)} is ${Math.round(box.width)} by ${Math.round(box.height)} small`);
  }

  // One h1, and no level skipped.
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(visible);
  if (headings.filter((h) => h.tagName === "H1").length !== 1) say("there is not exactly one h1");
  headings.reduce((level, h) => {
    const at = Number(h.tagName[1]);
    if (at > level + 1) say(`${name(h)} skips a level`);
    return at;
  }, 0);

  // Text can be read: contrast as WCAG AA has it.
  const parse = (color) => {
    const n = color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    return { r: n[0], g: n[1], b: n[2], a: n[3] ?? 1 };
  };
  const over = (top, bottom) => {
    const mix = (a, b) => a * top.a + b * (1 - top.a);
    return { r: mix(top.r, bottom.r), g: mix(top.g, bottom.g), b: mix(top.b, bottom.b), a: 1 };
  };
  const ground = (el) => {
    const layers = [];
    for (let at = el; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.a > 0) layers.push(c);
      if (c.a === 1) break;
    }
    return layers.reduceRight((below, c) => over(c, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const light = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || seen.has(el) || !visible(el) || hidden(el) || el.matches("script, style, option") || el.closest(":disabled")) continue;
    seen.add(el);
    const style = getComputedStyle(el);
    const below = ground(el);
    const [a, b] = [light(over(parse(style.color), below)), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) say(`${name(el)} has the contrast ${ratio.toFixed(2)}`);
    if (size < 12) say(`${name(el)} is ${size} pixels small`);
  }
  return found;
})()
