#!/usr/bin/env bash
# build.sh [TAG]: builds the image from a clean export of this checkout's HEAD. Where no image registry can be reached, on
# a base made from Debian's archive (base.sh), which is kept in .cache/image. Wants a Docker daemon; DOCKER_HOST names one.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-consumer:dev}
base=${BASE_IMAGE:-python:3.13-slim-trixie}

if ! docker image inspect "$base" >/dev/null 2>&1 && ! timeout 120 docker pull --quiet "$base"; then
    echo "$base cannot be had; a base of our own it is"
    base=local/python:3.13-slim-trixie
    tar=.cache/image/base.tar
    if ! docker image inspect "$base" >/dev/null 2>&1; then
        [[ -s $tar ]] || deploy/image/base.sh "$tar"
        docker import --change 'CMD ["python3"]' \
            --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt' \
            "$tar" "$base" >/dev/null
    fi
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
git archive HEAD | tar -x -C "$context"
# The network of the host: a daemon without a bridge of its own builds too.
docker build --network=host --build-arg "BASE_IMAGE=$base" --build-arg "REVISION=$(git rev-parse HEAD)" \
    -f "$context/deploy/Dockerfile" -t "$tag" "$context"
docker image inspect "$tag" --format 'built {{.RepoTags}}: {{.Size}} bytes, user {{.Config.User}}'
