#!/bin/bash
# Registers this machine, as runbooks for the old product call it:
#     UnifiedAgentConfigurator.sh -i CONFIGURATION-SERVER -P PASSPHRASE-FILE
set -u

usage() {
    echo "usage: UnifiedAgentConfigurator.sh -i CONFIGURATION-SERVER -P PASSPHRASE-FILE" >&2
    exit 2
}

server='' passphrase=''
while [ $# -gt 0 ]; do
    case $1 in
        -i | -P)
            [ $# -ge 2 ] || usage
            if [ "$1" = -i ]; then server=$2; else passphrase=$2; fi
            shift 2
            ;;
        -h | --help) usage ;;
        *)
            echo "UnifiedAgentConfigurator.sh: the option $1 is not supported" >&2
            echo "  do: register by \"mtctl register\" on a master target, or \"mt-source register\" at a source;" >&2
            echo "      --help of these tells their options, and \"-c\", \"-S\" and \"-q\" have no place there" >&2
            exit 2
            ;;
    esac
done
[ -n "$server" ] && [ -n "$passphrase" ] || usage

for program in /usr/bin/mtctl /usr/bin/mt-source; do
    [ ! -x "$program" ] || exec "$program" register -i "$server" -P "$passphrase"
done
echo "UnifiedAgentConfigurator.sh: neither a master target nor a source agent is installed here" >&2
echo "  do: install the package master-target, or master-target-source" >&2
exit 1
