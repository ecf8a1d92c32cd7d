import assert from "node:assert/strict";
import { test } from "node:test";
import { total } from "../src/cart.js";

test("a total counts each item as often as it is there", () => {
  assert.equal(total([{ cents: 450, count: 2 }, { cents: 100, count: 1 }]), "10.00 €");
});
