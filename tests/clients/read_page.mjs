// What a headless browser sees of a page: read_page.mjs CHROMIUM NODE_MODULES PAGE [FOLDER] writes one JSON object.
// With FOLDER it also writes there pictures of what it saw.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [executablePath, modules, file, folder] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const text = readFileSync(file, "utf8");

const browser = await puppeteer.launch({ executablePath, pipe: true, protocolTimeout: 600_000, args: ["--no-sandbox", "--disable-gpu"] });
const SCALE = 1.5;
const found = { axe: [], passed: [], wide: [], said: [], asked: [], focus: [], bare: {}, print: {} };

// `bare`: served as by a host that allows style sheets of its own alone, so that the page's own style is dropped.
async function opened(bare) {
  const page = await browser.newPage();
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (request.url() !== "https://report.test/") {
      found.asked.push(request.url());
      return request.abort();
    }
    const headers = bare ? { "content-security-policy": "default-src 'none'; style-src 'self'" } : {};
    return request.respond({ contentType: "text/html; charset=utf-8", body: text, headers });
  });
  page.on("dialog", (dialog) => { found.said.push(dialog.message()); dialog.dismiss(); });
  if (!bare) page.on("console", (message) => found.said.push(message.text()));
  page.on("pageerror", (error) => found.said.push(String(error)));
  return page;
}

async function checked(page, where) {
  await page.evaluate(() => { for (const one of document.querySelectorAll("details")) one.open = true; });
  await page.evaluate(axe);
  // Colours are what hangs on the scheme, all else on the width: the rule about contrast takes most of the time.
  const chosen = where.startsWith("dark") ? { runOnly: ["color-contrast"] }
    : where.endsWith("1280") ? {} : { rules: { "color-contrast": { enabled: false } } };
  const result = await page.evaluate((rules) => axe.run(document, { resultTypes: ["violations"], ...rules }), chosen);
  for (const one of result.violations) {
    found.axe.push(`${where}: ${one.id}: ${one.nodes[0].target} ${one.nodes[0].failureSummary}`);
  }
  const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  found.passed.push(`${where}: ${result.passes.some((one) => one.id === "color-contrast")} ${result.passes.length > 20}`);
  if (needed > there) found.wide.push(`${where}: ${needed} of ${there} pixels`);
}

const page = await opened(false);
for (const scheme of ["light", "dark"]) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  for (const width of scheme === "light" ? [1280, 400, 320] : [1280]) {
    await page.setViewport({ width, height: 900, deviceScaleFactor: folder ? SCALE : 1 });
    await page.goto("https://report.test/");
    if (folder) await page.screenshot({ path: `${folder}/${scheme}-${width}.png`, fullPage: true });
    if (width !== 400) await checked(page, `${scheme} ${width}`);
    const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    if (needed > there) found.wide.push(`${scheme} ${width}: ${needed} pixels`);
  }
}
if (folder) {
  // Where the parts of the widest pictures are, from top to bottom, in their pixels.
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto("https://report.test/");
  found.places = await page.evaluate((scale) => Object.fromEntries(
    [...document.querySelectorAll("section, .grids, .wide")].map((one) => {
      const box = one.getBoundingClientRect();
      const name = one.className || one.getAttribute("aria-labelledby");
      return [name, [box.top * scale, box.bottom * scale]];
    })), SCALE);
}
// Each stop of the keyboard shows that it is one.
await page.setViewport({ width: 1280, height: 900 });
await page.goto("https://report.test/");
for (let stop = 0; stop < 40; stop += 1) {
  await page.keyboard.press("Tab");
  const at = await page.evaluate(() => {
    const one = document.activeElement;
    if (one === document.body) return null;
    const box = one.getBoundingClientRect();
    return { text: one.textContent.trim().slice(0, 40), outline: getComputedStyle(one).outlineStyle,
             seen: box.width > 0 && box.left >= 0 && box.top >= 0 && box.bottom <= innerHeight };
  });
  if (at === null) break;
  found.focus.push(at);
}
await page.emulateMediaType("print");
found.print = await page.evaluate(() => ({
  nav: document.querySelector("nav").offsetHeight,
  hidden: [...document.querySelectorAll("h2, h3, table, details dl")].filter((one) => !one.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true })).length,
  background: getComputedStyle(document.body).backgroundColor,
}));
if (folder) await page.pdf({ path: `${folder}/page.pdf`, format: "A4" });

const plain = await opened(true);
await plain.setJavaScriptEnabled(false);
for (const width of [1280, 320]) {
  await plain.setViewport({ width, height: 900 });
  await plain.goto("https://report.test/");
  if (folder) await plain.screenshot({ path: `${folder}/bare-${width}.png`, fullPage: true });
  found.bare[width] = await plain.evaluate(() => ({
    styled: getComputedStyle(document.querySelector("h1")).letterSpacing !== "normal",
    hidden: [...document.querySelectorAll("main h2, main h3, main table, main summary, main li, .wide svg")]
      .filter((one) => !one.closest("details") && one.getBoundingClientRect().height === 0).length,
    twice: [...document.querySelectorAll(".narrow svg")].filter((one) => one.getBoundingClientRect().height > 0).length,
    pictures: [...document.querySelectorAll(".wide svg, .grids svg")].map((one) => one.getBoundingClientRect().width),
    needed: document.documentElement.scrollWidth,
  }));
}
console.log(JSON.stringify(found));
await browser.close();
