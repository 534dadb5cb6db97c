"""A server and a client of WebSocket: `server` prints its port and echoes until its input ends;
`client ADDRESS` talks to it and prints what came of it, a line each."""

import asyncio
import contextlib
import sys

import websockets


async def serve():
    async def echo(socket):
        # Whoever goes without a word has gone.
        with contextlib.suppress(websockets.ConnectionClosedError):
            async for message in socket:
                await socket.send(message)
                if message == "enough":
                    await socket.close(4001, "as you say")
                    return

    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def talk(address):
    async with websockets.connect(f"ws://{address}/chat", max_size=None) as socket:
        for size in [0, 1, 125, 126, 65535, 65536, 1_000_000]:
            await socket.send(bytes(size))
            assert await socket.recv() == bytes(size), size
        print("messages")
        await (await socket.ping())
        print("ping")
        await socket.send("enough")
        assert await socket.recv() == "enough"
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            print("closed", closed.rcvd.code, closed.rcvd.reason)


asyncio.run(serve() if sys.argv[1] == "server" else talk(sys.argv[2]))
