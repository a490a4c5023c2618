// The caller: whose key is used, and what it may do. What it may not do is not offered.

import { key, request, type Schema } from "./api.ts";

export type Scope = Schema["Scope"];
export type Caller = Schema["CallerRead"];

let caller: Caller | null = null;

/** Reads it anew, with the key that is stored. Throws Problem if that key is not accepted. */
export async function readCaller(): Promise<Caller> {
  caller = null;
  caller = await request("get", "/api/v1/whoami");
  return caller;
}

export function currentCaller(): Caller | null {
  return caller;
}

/** Whether it has one of the scopes; true while it is unknown, as the server decides anyway. */
export function may(...scopes: readonly Scope[]): boolean {
  if (caller === null) return true;
  const own = caller.scopes;
  return own.includes("admin") || scopes.some((scope) => own.includes(scope));
}

/** Whether a page has anything for it: a page that asks for what is refused would ask again and again. */
export function mayOpen(page: string): boolean {
  if (page === "cache" || page === "history" || page === "events" || page === "sizing" || page === "pins") return may("operate");
  if (page === "try") return may("infer");
  if (page === "publish") return may("publish");
  if (page === "keys") return may("admin");
  if (page === "server") return isPlatform() && may("operate");
  if (page === "tenants" || page === "webhooks") return isPlatform() && may("admin");
  return true;
}

/** Whether it is the platform's, and not a tenant's. */
export function isPlatform(): boolean {
  return caller === null || caller.tenant === null;
}

/** Whether an adapter or key is the caller's to change. */
export function owns(name: string): boolean {
  return caller === null || caller.tenant === null || name.startsWith(`${caller.tenant}~`);
}

export function isSignedIn(): boolean {
  return Boolean(key.get()) && caller !== null && caller.prefix !== null;
}
