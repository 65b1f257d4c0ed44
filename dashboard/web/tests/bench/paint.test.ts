/**
 * How long the built page takes to be there, and a status to be on it: `make bench-page` runs this
 * against a real nginx, API and PostgreSQL, and prints what is left in OVERLORD_BENCH_RESULT.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";

import { launch } from "../browser/launch";

const PICTURES = join(import.meta.dirname, "../../test-artefacts");
const LOADS = 7;
const POSTS = 20;
const LOOKS = [
  { name: "light", colorScheme: "light", viewport: { width: 1440, height: 900 } },
  { name: "dark", colorScheme: "dark", viewport: { width: 1440, height: 900 } },
  { name: "phone", colorScheme: "light", viewport: { width: 390, height: 844 } },
] as const;

/** Milliseconds from the start of the navigation, unless said. */
interface Load {
  firstPaint: number;
  /** The whole fleet is on the canvas; NaN for the page of one word. */
  fleetDrawn: number;
  /** As they came over the wire, headers included. */
  bytes: number;
  longTasks: number;
  longest: number;
}

const url = required("OVERLORD_URL");
const operator = required("OVERLORD_OPERATOR_TOKEN");
const device = { id: required("OVERLORD_DEVICE"), token: required("OVERLORD_DEVICE_TOKEN") };
const devices = Number(required("OVERLORD_DEVICES"));
const result = required("OVERLORD_BENCH_RESULT");

let browser: Browser;

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; \`make bench-page\` sets it.`);
  return value;
}

beforeAll(async () => {
  mkdirSync(PICTURES, { recursive: true });
  browser = await launch();
});
afterAll(() => browser?.close());

/** A browser that has seen nothing yet, signed in. */
async function fresh(look: (typeof LOOKS)[number] = LOOKS[0]): Promise<BrowserContext> {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: look.viewport,
    colorScheme: look.colorScheme,
    deviceScaleFactor: look.name === "phone" ? 2 : 1,
    locale: "en-GB",
  });
  await context.addInitScript((token) => {
    sessionStorage.setItem("overlord.token", token);
    const tasks: number[] = [];
    Object.assign(globalThis, { longTasks: tasks });
    new PerformanceObserver((list) =>
      tasks.push(...list.getEntries().map((one) => one.duration)),
    ).observe({ type: "longtask", buffered: true });
  }, operator);
  return context;
}

async function openFleet(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  await page.goto(`${url}/#/`);
  await page.waitForFunction(
    () => performance.getEntriesByName("overlord-fleet-drawn").length > 0,
    null,
    { polling: "raf" },
  );
  return page;
}

function loadOf(page: Page): Promise<Load> {
  return page.evaluate(async () => {
    const paints = () => performance.getEntriesByName("first-contentful-paint");
    while (paints().length === 0) await new Promise((done) => setTimeout(done, 10));
    const [navigation] = performance.getEntriesByType("navigation");
    const parts = [navigation, ...performance.getEntriesByType("resource")];
    const { longTasks } = globalThis as unknown as { longTasks: number[] };
    return {
      firstPaint: paints()[0]!.startTime,
      fleetDrawn: performance.getEntriesByName("overlord-fleet-drawn")[0]?.startTime ?? NaN,
      bytes: parts.reduce((sum, one) => sum + (one as PerformanceResourceTiming).transferSize, 0),
      longTasks: longTasks.length,
      longest: Math.max(0, ...longTasks),
    };
  });
}

/** From the moment a status is posted until a frame with it is due, in milliseconds. */
function postAndSee(page: Page, status: string, wanted: number): Promise<number> {
  return page.evaluate(
    async ({ device, status, wanted }) => {
      const now = new Date().toISOString();
      const started = performance.now();
      const posted = fetch("/api/status", {
        method: "POST",
        headers: { Authorization: `Bearer ${device.token}`, "Content-Type": "application/json" },
        body: JSON.stringify({
          device_id: device.id,
          event_id: crypto.randomUUID(),
          event_time: now,
          sent_at: now,
          status,
          message: status === "ok" ? "" : "disk_used_percent is 97, critical from 95",
          metrics: { disk_used_percent: 97 },
        }),
      });
      const shown = () =>
        document.querySelector("button.count.critical .number")?.textContent?.replaceAll(",", "");
      while (shown() !== String(wanted)) {
        if (performance.now() - started > 10_000) throw new Error(`${shown()}, not ${wanted}`);
        await new Promise(requestAnimationFrame);
      }
      const seen = performance.now() - started;
      if (!(await posted).ok) throw new Error(`the status was refused: ${(await posted).status}`);
      return seen;
    },
    { device, status, wanted },
  );
}

test("first paint, and the time from a post to the page", { timeout: 300_000 }, async () => {
  const floor: Load[] = [];
  const loads: Load[] = [];
  for (let round = 0; round < LOADS; round += 1) {
    const context = await fresh();
    const bare = await context.newPage();
    await bare.goto(`${url}/bare.html`);
    floor.push(await loadOf(bare));
    await context.close();
    const another = await fresh();
    loads.push(await loadOf(await openFleet(another)));
    await another.close();
  }

  const context = await fresh();
  const page = await openFleet(context);
  expect(await page.locator(".total .number").innerText()).toBe(devices.toLocaleString("en"));
  await page.locator(".live", { hasText: "Live" }).waitFor();
  const text = await page.locator("button.count.critical .number").innerText();
  const before = Number(text.replaceAll(",", ""));
  const posts: number[] = [];
  for (let round = 0; round < POSTS; round += 1) {
    const worse = round % 2 === 0;
    posts.push(await postAndSee(page, worse ? "critical" : "ok", before + Number(worse)));
  }
  await context.close();

  for (const look of LOOKS) {
    const one = await fresh(look);
    const shown = await openFleet(one);
    await shown.waitForTimeout(500); // the events beside the grid
    await shown.screenshot({ path: join(PICTURES, `bench-${devices}-${look.name}.png`) });
    await one.close();
  }
  writeFileSync(result, JSON.stringify({ floor, loads, posts }));
});
