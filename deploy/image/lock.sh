#!/bin/sh
# Pin and hash what the image installs (needs uv): requirements.txt and build.txt, here.
set -eu
cd "$(dirname "$0")/../.."
# As old as the project itself allows: the tests install these files, too.
lock() {
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --custom-compile-command "deploy/image/lock.sh" "$@"
}
lock --extra k8s --extra metrics pyproject.toml deploy/image/requirements.in -o deploy/image/requirements.txt
lock -c deploy/image/requirements.txt deploy/image/build.in -o deploy/image/build.txt
