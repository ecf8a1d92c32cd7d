package shop.orders

import com.sun.net.httpserver.HttpServer
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpRequest.BodyPublishers
import java.net.http.HttpResponse
import java.net.http.HttpResponse.BodyHandlers
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import shop.proto.Catalog
import shop.proto.Order

class ServerTest {
    private val server: HttpServer = serve(InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
    private val client: HttpClient = HttpClient.newHttpClient()

    @AfterEach
    fun stop() = server.stop(0)

    @Test
    fun `the catalog is served`() {
        val answer = send(HttpRequest.newBuilder(at("/catalog")))
        assertEquals(catalog, Catalog.parseFrom(answer.body()))
    }

    @Test
    fun `an order comes back with its total`() {
        val answer = post(order("tea-black" to 3).toByteArray())
        assertEquals(1170, Order.parseFrom(answer.body()).totalCents)
    }

    @Test
    fun `an unknown product is the customer's mistake`() {
        val answer = post(order("tea-blue" to 1).toByteArray())
        assertEquals(422, answer.statusCode())
        assertEquals("no product tea-blue", String(answer.body()))
    }

    private fun at(path: String): URI = URI("http://localhost:${server.address.port}$path")

    private fun post(body: ByteArray): HttpResponse<ByteArray> =
        send(HttpRequest.newBuilder(at("/orders")).POST(BodyPublishers.ofByteArray(body)))

    private fun send(request: HttpRequest.Builder): HttpResponse<ByteArray> =
        client.send(request.build(), BodyHandlers.ofByteArray())
}
