/**
 * The page against a running stack: what the fake API of the other tests cannot prove.
 *
 * OVERLORD_URL is the stack's address and OVERLORD_OPERATOR_TOKEN its operator token. A device is
 * enrolled for the test and retired at the end. Certificates are not checked: the sandbox has its
 * own authority.
 */

import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";

import { launch } from "../browser/launch";

const PICTURES = join(import.meta.dirname, "../../test-artefacts");
const POSTS = 10;

const url = required("OVERLORD_URL").replace(/\/$/, "");
const operator = required("OVERLORD_OPERATOR_TOKEN");
const id = `web-test-${randomBytes(4).toString("hex")}`;

let browser: Browser;
let page: Page;
let deviceToken: string;

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; this test needs a running stack.`);
  return value;
}

/** From within the page: the browser knows names under .localhost, Node.js may not. */
async function post(path: string, token: string, data?: unknown): Promise<unknown> {
  const { status, text } = await page.evaluate(
    async ({ path, token, body }) => {
      const headers = {
        Authorization: `Bearer ${token}`,
        ...(body === null ? {} : { "Content-Type": "application/json" }),
      };
      const answer = await fetch(path, { method: "POST", headers, body });
      return { status: answer.status, text: await answer.text() };
    },
    { path, token, body: data === undefined ? null : JSON.stringify(data) },
  );
  if (status >= 300) throw new Error(`${path}: ${status} ${text}`);
  return text ? JSON.parse(text) : null;
}

function report(status: string, message: string): Promise<unknown> {
  const now = new Date().toISOString();
  return post("/api/status", deviceToken, {
    device_id: id,
    event_id: randomUUID(),
    event_time: now,
    sent_at: now,
    status,
    message,
    uptime_seconds: 60,
    config_version: "1",
    agent_version: "test",
    metrics: { disk_used_percent: 97, load_1m: 0.4, load_5m: 0.3, load_15m: 0.2 },
  });
}

beforeAll(async () => {
  mkdirSync(PICTURES, { recursive: true });
  browser = await launch();
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1440, height: 900 },
    locale: "en-GB",
  });
  page = await context.newPage();
}, 60_000);

afterAll(async () => {
  if (deviceToken) await post(`/api/devices/${id}/retire`, operator);
  await browser?.close();
}, 60_000);

test("an enrolled device appears, and each of its reports is on the page within a second", async () => {
  await page.goto(`${url}/#/`);
  await page.getByLabel("Operator token").fill(operator);
  await page.keyboard.press("Enter");
  await page.locator(".live", { hasText: "Live" }).waitFor();

  const enrolled = (await post("/api/devices", operator, { device_id: id })) as { token: string };
  deviceToken = enrolled.token;
  await page.keyboard.press("/");
  await page.keyboard.type(id);
  await page.locator("#search-0", { hasText: id }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByText("has never reported").waitFor();

  const times: number[] = [];
  for (let round = 0; round < POSTS; round += 1) {
    const status = round % 2 === 0 ? "critical" : "warning";
    const shown = round % 2 === 0 ? "Critical" : "Warning";
    const started = performance.now();
    const answered = report(status, `round ${round}`);
    await page.waitForFunction(
      (label) => document.querySelector(".title .badge")?.textContent?.includes(label),
      shown,
      { polling: "raf", timeout: 10_000 },
    );
    times.push(performance.now() - started);
    await answered;
  }
  times.sort((a, b) => a - b);
  console.log(
    `from a post to the page: median ${times[POSTS / 2]!.toFixed(0)} ms, longest ${times.at(-1)!.toFixed(0)} ms`,
  );
  expect(times.at(-1)).toBeLessThan(1_000);
});

test("the device page has its history, events and reports", async () => {
  await page.reload();
  await page.locator(".chart canvas").first().waitFor();
  await page
    .locator("table tbody tr")
    .nth(POSTS - 1)
    .waitFor();
  expect(await page.locator(".events li").count()).toBeGreaterThanOrEqual(POSTS);
  await page.screenshot({ path: join(PICTURES, "live-device.png") });
});

test.each([
  ["", "Devices"],
  ["alerts", "Alerts"],
  ["nodes", "vps-01"],
  ["nodes", "Failover"],
  ["backups", "Restore test"],
  ["audit", "Audit"],
])("page /%s shows no failure", async (path, heading) => {
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  await page.goto(`${url}/#/${path}`);
  await page.getByRole("heading", { name: heading, exact: true }).waitFor();
  await page.waitForTimeout(2_000); // each page asks at once; a failure would show by then
  await page.screenshot({ path: join(PICTURES, `live-${path || "fleet"}.png`) });
  expect(await page.locator(".failure").allInnerTexts()).toEqual([]);
  expect(complaints).toEqual([]);
});
