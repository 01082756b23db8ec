#!/bin/sh
# Pin and hash what the image installs (needs uv): requirements.txt and build.txt, here.
set -eu
cd "$(dirname "$0")/../.."
lock() {
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.13 --generate-hashes \
        --no-emit-index-url --custom-compile-command "deploy/image/lock.sh" "$@"
}
lock --extra k8s pyproject.toml deploy/image/requirements.in -o deploy/image/requirements.txt
lock -c deploy/image/requirements.txt deploy/image/build.in -o deploy/image/build.txt
