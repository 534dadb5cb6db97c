"""A server and a client of gRPC: `server` prints its port and serves until its input ends;
`client ADDRESS` makes every kind of call and prints what came of it, a line each."""

import sys
from concurrent import futures

import grpc


def echo(request, context):
    context.set_trailing_metadata((("x-behind", "trailer"),))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "none: \u00e9")


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def converse(requests, context):
    for request in requests:
        yield request.upper()


METHODS = {
    "/test.Peer/Echo": grpc.unary_unary_rpc_method_handler(echo),
    "/test.Peer/Fail": grpc.unary_unary_rpc_method_handler(fail),
    "/test.Peer/Count": grpc.unary_stream_rpc_method_handler(count),
    "/test.Peer/Total": grpc.stream_unary_rpc_method_handler(total),
    "/test.Peer/Converse": grpc.stream_stream_rpc_method_handler(converse),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Handler(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def call(address):
    channel = grpc.insecure_channel(address)
    options = {"timeout": 15, "wait_for_ready": True}
    answer, outcome = channel.unary_unary("/test.Peer/Echo").with_call(b"one", **options)
    print("echo", answer.decode(), dict(outcome.trailing_metadata())["x-behind"])
    large = bytes(3_000_000)
    print("large", channel.unary_unary("/test.Peer/Echo")(large, **options) == large)
    for method in ["Fail", "Missing"]:
        try:
            channel.unary_unary(f"/test.Peer/{method}")(b"", **options)
        except grpc.RpcError as error:
            print(method.lower(), error.code().name, error.details())
    counted = channel.unary_stream("/test.Peer/Count")(b"1000", **options)
    print("count", sum(int(number) for number in counted))
    numbers = (str(number).encode() for number in range(1000))
    print("total", channel.stream_unary("/test.Peer/Total")(numbers, **options).decode())
    print("converse", b" ".join(channel.stream_stream("/test.Peer/Converse")(iter([b"a", b"b"]), **options)).decode())
    many = [channel.unary_unary("/test.Peer/Echo").future(str(n).encode(), **options) for n in range(300)]
    print("many", sum(int(one.result()) for one in many))


if sys.argv[1] == "server":
    serve()
else:
    call(sys.argv[2])
