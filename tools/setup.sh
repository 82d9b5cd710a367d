#!/usr/bin/env bash
# Makes .venv from the hashed lock. As root on Debian it also installs what the local backend and the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "Serai needs Python 3.11 or newer as python3. On Debian 12: apt-get install python3 python3-venv" >&2
  exit 1
fi

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    echo "Not installed here: ${missing[*]}. Ask an administrator: apt-get install ${missing[*]}" >&2
    echo "Without bubblewrap no job can run; without postgresql its tests are skipped by name." >&2
  fi
fi

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock.txt
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
echo "ready: .venv/bin/serai"
