import { total } from "@shop/cart";

/** The page of an example order. */
export const page = () => `<!doctype html><title>Your cart</title><p>Total: ${total([{ cents: 450, count: 2 }])}</p>\n`;
