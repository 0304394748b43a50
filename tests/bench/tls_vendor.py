"""A vendor for the broker's benchmark: answers at once, or streams events that say when they were sent."""

import asyncio
import json
import ssl
import sys
import time

__all__ = ["serve"]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            order = json.loads(await reader.readexactly(int(lengths[0].partition(b":")[2])))
            if order.get("events"):
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for _ in range(order["events"]):
                    event = b"data: %d\n\n" % time.perf_counter_ns()
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                    await writer.drain()
                    if order["gap_s"]:
                        await asyncio.sleep(order["gap_s"])
                writer.write(b"0\r\n\r\n")
            else:
                body = json.dumps({"answer": "y" * 400}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(folder: str) -> None:
    """Serve with the certificate in ``folder`` until the process is ended; the port is the first line printed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/vendor.pem")
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
