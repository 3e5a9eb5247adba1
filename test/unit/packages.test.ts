/** What is packed and published: package.json of each package, what a binary needs, the order of a release. */

import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
// @ts-expect-error: a script, without types
import { compareVersions, neededGlibc, neededVersions } from "../../scripts/elf.mjs";
// @ts-expect-error: a script, without types
import { platformManifest, publishedManifest } from "../../scripts/pack.mjs";
// @ts-expect-error: a script, without types
import { platforms } from "../../scripts/platforms.mjs";
import { temporaryFolder } from "../support/folders.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

describe("package.json", () => {
  it("of rkd lists every platform in the same version, and nothing that runs at installation", () => {
    const published = publishedManifest(platforms);
    const names = Object.keys(published.optionalDependencies);
    expect(names).toHaveLength(8);
    expect(names).toContain("rkd-linux-arm64-musl");
    expect(new Set(Object.values(published.optionalDependencies))).toEqual(new Set([manifest.version]));
    expect(published).not.toHaveProperty("scripts");
    expect(published).not.toHaveProperty("devDependencies");
    // In the repository npm would look for them on the registry.
    expect(manifest).not.toHaveProperty("optionalDependencies");
  });

  it.each([
    ["linux-x64-gnu", { os: ["linux"], cpu: ["x64"], libc: ["glibc"] }],
    ["linux-arm64-musl", { os: ["linux"], cpu: ["arm64"], libc: ["musl"] }],
    ["darwin-arm64", { os: ["darwin"], cpu: ["arm64"] }],
    ["win32-x64-msvc", { os: ["win32"], cpu: ["x64"] }],
  ])("of %s is for that platform alone, and says where it comes from", (name, limits) => {
    const made = platformManifest(platforms.find((platform: { name: string }) => platform.name === name));
    const { os, cpu, libc } = made;
    expect({ os, cpu, ...(libc && { libc }) }).toEqual(limits);
    expect(made.main).toBe(`rkd.${name}.node`);
    expect(made.repository.url).toBe(manifest.repository.url);
    expect(made.publishConfig).toEqual({ access: "public", provenance: true });
  });
});

describe("a binary", () => {
  it.runIf(process.platform === "linux")("tells the versions that it needs of its libraries", () => {
    const folder = join(root, "dist", "native");
    const file = readdirSync(folder).find((name) => name.endsWith("-gnu.node"));
    if (!file) return; // built for musl
    const needed = neededGlibc(neededVersions(join(folder, file)));
    const { glibcVersionRuntime } = (process.report.getReport() as { header: { glibcVersionRuntime: string } }).header;
    expect(compareVersions(needed, "2.2.5")).toBeGreaterThan(0);
    expect(compareVersions(needed, glibcVersionRuntime)).toBeLessThanOrEqual(0); // it is loaded here
    expect(() => neededVersions(join(root, "package.json"))).toThrow("no 64-bit little-endian ELF file");
  });

  it("is as new as the newest number, not the last word", () => {
    expect(neededGlibc(["GCC_3.0", "GLIBC_2.17", "GLIBC_2.2.5", "GLIBC_2.9", "GLIBC_PRIVATE"])).toBe("2.17");
    expect(neededGlibc(["GCC_3.0"])).toBeUndefined();
  });
});

describe("a release", { timeout: 300_000 }, () => {
  const version = "1.2.3";
  const listed = ["rkd-linux-x64-gnu"];

  /** A folder of tarballs of these packages. */
  function tarballs(names: readonly string[]): string {
    const folder = temporaryFolder();
    for (const name of names) {
      const source = join(folder, name, "package");
      mkdirSync(source, { recursive: true });
      const optionalDependencies = Object.fromEntries(listed.map((other) => [other, version]));
      const made = { name, version, ...(name === "rkd" && { optionalDependencies }) };
      writeFileSync(join(source, "package.json"), JSON.stringify(made));
      spawnSync("tar", ["-czf", join(folder, `${name}-${version}.tgz`), "-C", join(folder, name), "package"]);
    }
    return folder;
  }

  /** A registry that knows `names`, and what is published there. */
  async function registry(names: readonly string[]) {
    const versions = new Map(names.map((name) => [name, ["0.0.1"]]));
    const published: string[] = [];
    const server = createServer((request, response) => {
      const name = (request.url ?? "").slice(1).split("?")[0] ?? "";
      const known = versions.get(name);
      if (request.method === "PUT") {
        published.push(name);
        known?.push(version);
      }
      const entries = (known ?? []).map((version) => {
        const dist = { tarball: `http://localhost/${name}.tgz`, shasum: createHash("sha1").update(name).digest("hex") };
        return [version, { name, version, dist }];
      });
      response.writeHead(known ? 200 : 404, { "content-type": "application/json" });
      response.end(JSON.stringify({ name, "dist-tags": { latest: "0.0.1" }, versions: Object.fromEntries(entries) }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return { url: `http://127.0.0.1:${port}/`, port, published, close: () => server.close() };
  }

  async function publish(folder: string, { url, port }: { url: string; port: number }) {
    const rc = join(folder, ".npmrc");
    writeFileSync(
      rc,
      `registry=${url}\n//127.0.0.1:${port}/:_authToken=none\nfetch-retries=0\ncache=${join(folder, "cache")}\n`,
    );
    const script = join(root, "scripts", "publish.mjs");
    const env = { ...process.env, npm_config_userconfig: rc, npm_config_registry: url };
    const child = spawn(process.execPath, [script, folder, "--provenance=false"], { cwd: folder, env });
    let text = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk) => {
        text += chunk;
      });
    const code = await new Promise((resolve) => child.on("close", resolve));
    return { code, text };
  }

  it("publishes rkd after the platforms, and nothing twice", async () => {
    const at = await registry(["rkd", ...listed]);
    const folder = tarballs(["rkd", ...listed]);
    const first = await publish(folder, at);
    expect(first.code, first.text).toBe(0);
    expect(at.published).toEqual([...listed, "rkd"]);
    const again = await publish(folder, at);
    expect(again.code, again.text).toBe(0);
    expect(again.text).toContain("rkd@1.2.3 is there already");
    expect(at.published).toHaveLength(2);
    at.close();
  });

  it("publishes nothing where a platform lacks, or where the registry does not know a package", async () => {
    const at = await registry(["rkd"]);
    const lacking = await publish(tarballs(["rkd"]), at);
    expect(lacking.text).toContain("are not those that rkd 1.2.3 lists: rkd-linux-x64-gnu@1.2.3");
    const unknown = await publish(tarballs(["rkd", ...listed]), at);
    expect(unknown.text).toMatch(/has no rkd-linux-x64-gnu.+CONTRIBUTING\.md/);
    expect([lacking.code, unknown.code]).toEqual([1, 1]);
    expect(at.published).toEqual([]);
    at.close();
  });
});
