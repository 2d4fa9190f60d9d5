# shellcheck shell=bash
testbed_down() { return 0; }
