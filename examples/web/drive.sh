#!/bin/sh
# Asks the server for all that it should do, and makes it start its workers anew. `sandbox learn --drive` runs it.
set -eu
ask() { curl -fsS --retry 5 --retry-connrefused "http://127.0.0.1:8008/price?formula=$1"; }

ask '6*7'
ask 'round(19.99*1.2,2)'
kill -HUP "$SERVER_PID"
sleep 2
ask '6*7'
