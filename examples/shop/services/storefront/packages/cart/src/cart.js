import { euros } from "@shop/money";

/** What a cart says below its last line. */
export const total = (items) => euros(items.reduce((sum, { cents, count }) => sum + cents * count, 0));
