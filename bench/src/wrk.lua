-- wrk sends the requests of a file in turn, and prints its measurements at the end as a line of JSON.
-- The file holds each request's length in bytes, a line feed, and its bytes. Its name is wrk's last argument.

local requests, at = {}, 0

function init(args)
  local file = assert(io.open(args[1], 'rb'))
  for length in function() return file:read('*l') end do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end

local PERCENTILES = { 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99 }

function done(summary, latency)
  local points = {}
  for index, percentile in ipairs(PERCENTILES) do
    points[index] = string.format('[%s,%.3f]', percentile, latency:percentile(percentile) / 1000)
  end
  local errors = summary.errors
  print(string.format('RESULT {"requests":%d,"microseconds":%d,"failed":%d,"refused":%d,"latency_ms":[%s]}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.timeout,
    errors.status, table.concat(points, ',')))
end
