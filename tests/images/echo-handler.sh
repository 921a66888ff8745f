#!/bin/sh
# A program that speaks Lambda's Runtime API itself, as an image made for Lambda does: it answers each event with what it got.
# The event {"fail": …} is answered with an error.
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while wget -q -S -O /tmp/event "$api/next" 2>/tmp/headers; do
    id=$(sed -n 's/^ *[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *//p' /tmp/headers | tr -d '\r')
    event=$(cat /tmp/event)
    echo "got $event"
    case $event in
        *'"fail"'*) wget -q -O /dev/null --post-data='{"errorType":"Function.Asked","errorMessage":"asked to fail"}' "$api/$id/error" ;;
        *) wget -q -O /dev/null --post-data="{\"got\":$event}" "$api/$id/response" ;;
    esac
done
