"""``python -m deploy.image.healthcheck``: exit 0 if this container's host is alive. An adapter.

Docker has no gRPC probe of its own as Kubernetes has. It asks ``grpc.health.v1.Health`` at
HEALTH_PORT, which is plaintext whatever TLS the service port has, or else at GRPC_PORT.
"""

from __future__ import annotations

import os
import sys

TIMEOUT_S = 4.0
SERVING = b"\x08\x01"  # HealthCheckResponse {status: SERVING}


def check(port: int, timeout_s: float = TIMEOUT_S) -> str:
    """ "" when the host on this machine's ``port`` is alive, else what is wrong with it."""
    import grpc  # type: ignore[import-untyped]

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")  # bytes in, bytes out
        try:
            answer = call(b"", timeout=timeout_s)
        except grpc.RpcError as exc:
            return f"port {port}: {exc.code().name}: {exc.details()}"
    return "" if answer == SERVING else f"port {port}: not serving"


def main() -> None:
    problem = check(int(os.environ.get("HEALTH_PORT") or os.environ.get("GRPC_PORT") or 50051))
    if problem:
        print(problem, file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
