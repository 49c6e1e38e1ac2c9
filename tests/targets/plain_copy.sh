#!/bin/sh
# plain_copy.sh SOURCE DESTINATION: a plain program that speaks no Runtime API; copies a file by cp, then compares them by cmp.
set -eu
cp "$1" "$2"
cmp "$1" "$2"
