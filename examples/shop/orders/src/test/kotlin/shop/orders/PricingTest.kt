package shop.orders

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import shop.proto.Order
import shop.proto.OrderLine

class PricingTest {
    @Test
    fun `the total is the sum over the lines`() {
        assertEquals(1800, price(order("tea-green" to 2, "cup-small" to 1), catalog).totalCents)
    }

    @Test
    fun `an empty order costs nothing`() {
        assertEquals(0, price(order(), catalog).totalCents)
    }

    @Test
    fun `a product that is not in the catalog is refused by name`() {
        val problem = assertThrows(UnknownProduct::class.java) { price(order("tea-blue" to 1), catalog) }
        assertEquals("no product tea-blue", problem.message)
    }
}

fun order(vararg lines: Pair<String, Int>): Order =
    Order.newBuilder()
        .addAllLines(lines.map { (sku, quantity) -> OrderLine.newBuilder().setSku(sku).setQuantity(quantity).build() })
        .build()
