"""What a worker of a front is handed, after another one has spoiled it."""

import socket
from pathlib import Path

from byenatos_kernel.addresses import split_address
from byenatos_kernel.bus import Bus
from byenatos_kernel.config import FrontConfig
from byenatos_kernel.fronts import FrontManager


async def test_a_worker_that_shuts_the_socket_down_keeps_the_next_from_nothing(rig, tmp_path):
    async with rig({}) as kernel:
        bus = Bus(Path(tmp_path, "kernel.sock"), "1")
        bus.start()
        manager = FrontManager({"front": FrontConfig(listen="127.0.0.1:0")}, (), kernel.drivers, bus)
        manager.start()
        (front,) = manager._fronts
        address = front.address
        channel, spoiled = manager._sockets(front)
        with channel, spoiled:
            spoiled.shutdown(socket.SHUT_RDWR)
            another, listening = manager._sockets(front)
            with another, listening, socket.create_connection(split_address(address)):
                listening.setblocking(True)
                listening.accept()[0].close()
        assert front.address == address
        manager.close()
        bus.close()
