/** The browser itself: that it starts, and that a fault of a page is seen. */

import { expect, test } from "vitest";
import { openPage } from "../support/browser.ts";

test("a page is shown, and its errors and requests are seen", async () => {
  const { page, errors, requests } = await openPage();
  await page.setContent(`<h1>It works</h1><img src="http://127.0.0.1:9/none.png"><script>undefined.x</script>`);
  expect(await page.getByRole("heading").textContent()).toBe("It works");
  await expect.poll(() => errors.length).toBeGreaterThan(1);
  expect(requests).toEqual(["http://127.0.0.1:9/none.png"]);
});
