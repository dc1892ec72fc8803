#!/usr/bin/env bash
# base.sh OUT.tar: a base image's root from Debian's archive, for a machine without an image registry.
# It mirrors python:3.13-slim-trixie: Debian 13 with its own Python 3.13. Wants mmdebstrap and root; about two minutes.
set -euo pipefail
out=${1:?usage: base.sh OUT.tar}
mkdir -p "$(dirname "$out")"

# Certificate authorities that this machine trusts belong into its base, never into the product's Dockerfile.
copy_authorities=()
for file in /usr/local/share/ca-certificates/*.crt; do
    [[ -e $file ]] && copy_authorities+=("--customize-hook=copy-in $file /usr/local/share/ca-certificates")
done

exec mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "${copy_authorities[@]}" \
    --customize-hook='chroot "$1" update-ca-certificates' \
    --customize-hook='ln -sf /usr/bin/python3 "$1/usr/local/bin/python"' \
    trixie "$out" ${MIRROR:+"$MIRROR"}
