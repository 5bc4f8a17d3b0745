// Lists what keeps people from using this page.
const problems = [];
const shown = (element) => element.checkVisibility({ visibilityProperty: true });
const name = (element) => {
  const text = (element.innerText || element.getAttribute("aria-label") || "").trim().slice(0, 40);
  return `<${element.localName}${element.id ? "#" + element.id : ""}> ${JSON.stringify(text)}`;
};

// Nothing is wider than the page.
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) {
  const wide = [...document.querySelectorAll("body *")].filter(
    (element) => shown(element) && element.getBoundingClientRect().right > width + 1,
  );
  problems.push(`scrolls sideways (${document.documentElement.scrollWidth} > ${width}): ${wide.slice(0, 5).map(name).join(", ")}`);
}

// Nothing reaches out of its cell or over its neighbour.
for (const cell of [...document.querySelectorAll("td, th, dd, .list > li, .tile")].filter(shown))
  if (cell.scrollWidth > cell.clientWidth + 1 && !cell.closest(".hidden, thead")) problems.push(`reaches out of its place: ${name(cell)}`);

// Each input has a label, each button and link a name, each id is there once, and headings do not skip.
for (const input of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
  if (![...input.labels].some((label) => label.textContent.trim()) && !input.getAttribute("aria-label"))
    problems.push(`no label: ${name(input)} ${input.name}`);
for (const element of document.querySelectorAll("a[href], button, summary"))
  if (!element.textContent.trim() && !element.getAttribute("aria-label")) problems.push(`no name: ${name(element)}`);
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) problems.push(`the id ${id} is there twice`);
for (const element of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
  for (const id of (element.getAttribute("aria-labelledby") || element.getAttribute("aria-describedby")).split(" "))
    if (!document.getElementById(id)) problems.push(`${name(element)} refers to ${id}, which is not there`);
let level = 0;
for (const heading of [...document.querySelectorAll("h1, h2, h3, h4")].filter(shown)) {
  const own = Number(heading.localName[1]);
  if (own > level + 1) problems.push(`a heading skips a level: ${name(heading)}`);
  level = own;
}
if (!document.documentElement.lang || !document.title) problems.push("no language or title");
if (document.querySelectorAll("main").length !== 1) problems.push("not one main part");

// Text stands out from what is behind it: WCAG 2.1, AA.
const channels = (color) => {
  const numbers = (color.match(/-?[\d.]+(e-?\d+)?/g) || []).map(Number);
  if (color.startsWith("color(srgb")) return [...numbers.slice(0, 3).map((part) => part * 255), numbers[3] ?? 1];
  return [...numbers.slice(0, 3), numbers[3] ?? 1];
};
const over = (top, below) => [0, 1, 2].map((part) => top[part] * top[3] + below[part] * (1 - top[3])).concat(1);
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    layers.push(color);
    if (color[3] === 1) break;
  }
  return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 1]);
};
const luminance = (color) => {
  const linear = color.slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const contrast = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((one, other) => other - one);
  return (high + 0.05) / (low + 0.05);
};
let texts = 0;
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const typed = element.matches("input:not([type=hidden]), select");
  if ((!own && !typed) || !shown(element) || element.closest("svg") || element.matches("script, noscript, option")) continue;
  texts += 1;
  const style = getComputedStyle(element);
  const back = behind(element);
  const ratio = contrast(over(channels(style.color), back), back);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5)) problems.push(`contrast ${ratio.toFixed(2)}: ${name(element)}`);
}
if (texts < 5) problems.push(`only ${texts} texts were found`);

// Icons and bars too: 3 to 1.
for (const icon of [...document.querySelectorAll("svg.icon")].filter(shown)) {
  const back = behind(icon.parentElement);
  if (contrast(channels(getComputedStyle(icon).stroke), back) < 3) problems.push(`the icon in ${name(icon.parentElement)} does not stand out`);
}
return problems;
