// A browser for the tests: one JSON command a line on standard input, one JSON answer a line on standard output.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const home = process.env.PAGE_HOME;
const require = createRequire(`${home}/package.json`);
const puppeteer = require('puppeteer-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await puppeteer.launch({
  executablePath: process.env.PAGE_CHROMIUM,
  args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars'],
});
const page = await browser.newPage();
const requests = [], messages = [];
page.on('request', request => requests.push(request.url()));
page.on('console', message => messages.push(`${message.type()}: ${message.text()}`));
page.on('pageerror', error => messages.push(`uncaught: ${error.message}`));
page.on('dialog', dialog => { messages.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
// How much moved without anybody having done something.
await page.evaluateOnNewDocument(() => {
  window.shifted = 0;
  new PerformanceObserver(list => list.getEntries().forEach(entry => { window.shifted += entry.value; }))
    .observe({ type: 'layout-shift', buffered: true });
});

const verbs = {
  open: async ({ url, width, height, dark }) => {
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]);
    return (await page.goto(url)).status();
  },
  // An expression of the page's own world.
  evaluate: ({ expression }) => page.evaluate(expression),
  wait: async ({ expression }) => { await page.waitForFunction(expression, { timeout: 30000, polling: 50 }); return true; },
  press: async ({ key }) => { await page.keyboard.press(key); return true; },
  shoot: async ({ name, full }) => { await page.screenshot({ path: `${home}/${name}.png`, fullPage: full }); return true; },
  // The page's policy forbids foreign scripts, so axe comes through the debugger.
  check: async () => {
    await page.evaluate(axe);
    const { violations, passes } = await page.evaluate(() => window.axe.run());
    const found = violations.map(one => `${one.impact} ${one.id}: ${one.nodes.map(node => node.html).slice(0, 3).join(' ')}`);
    return { passes: passes.length, violations: found };
  },
  record: async () => ({ requests, messages }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { verb, ...rest } = JSON.parse(line);
  let answer;
  try { answer = { ok: await verbs[verb](rest) ?? null }; } catch (error) { answer = { error: error.message }; }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
