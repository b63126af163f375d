#!/bin/sh
# Puts ansible-rulebook into target/beside/venv, at the versions of requirements.txt. It needs python3-venv and Java 17;
# the other two systems are Debian's packages: apt-get install openjdk-17-jdk-headless prometheus prometheus-alertmanager
set -eu
cd "$(dirname "$0")"
venv=${1:-../target/beside/venv}
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --requirement requirements.txt
"$venv/bin/ansible-rulebook" --version
