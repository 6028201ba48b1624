package redisstore

import "github.com/redis/go-redis/v9"

// Every script works on two keys of one slot:
//
//	KEYS[1] {digest}:s  hash: st = P (processing) or D (done), own, tok, how
//	KEYS[2] {digest}:f  fence counter; outlives the record
//
// Only relative times go in, in milliseconds, so no clock but that of Redis
// counts. Each script may run twice with the same arguments.

// ARGV: owner, lease, time to keep the counter. Answer: state, fence, PTTL.
const beginSource = `
local r = redis.call('HMGET', KEYS[1], 'st', 'own', 'tok')
if r[1] then
  local left = redis.call('PTTL', KEYS[1])
  if r[1] == 'D' then return {2, tonumber(r[3]), left} end
  if left < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    left = tonumber(ARGV[2])
  end
  if r[2] == ARGV[1] then return {0, tonumber(r[3]), left} end
  return {1, tonumber(r[3]), left}
end
local tok = redis.call('INCR', KEYS[2])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
redis.call('HSET', KEYS[1], 'st', 'P', 'own', ARGV[1], 'tok', string.format('%.0f', tok))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {0, tok, tonumber(ARGV[2])}
`

// ARGV: owner, fence, lease, time to keep the counter. Answer: 1 or 0.
const renewSource = `
local r = redis.call('HMGET', KEYS[1], 'st', 'own', 'tok')
if r[1] ~= 'P' or r[2] ~= ARGV[1] or r[3] ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
return 1
`

// ARGV: owner, fence, ttl, time to keep the counter. Answer: what it found, as
// the numbers of idempotency.Completion. It is a join: done wins over whatever
// the record was, and a repetition answers what the first run answered.
const completeSource = `
local r = redis.call('HMGET', KEYS[1], 'st', 'own', 'tok', 'how')
local how
if r[1] == 'D' then
  how = 4
  if r[3] == ARGV[2] then how = tonumber(r[4]) end
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
else
  if not r[1] then how = 2
  elseif r[2] == ARGV[1] and r[3] == ARGV[2] then how = 1
  else how = 3 end
  redis.call('HSET', KEYS[1], 'st', 'D', 'tok', ARGV[2], 'how', how)
  redis.call('HDEL', KEYS[1], 'own')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SET', KEYS[2], ARGV[2]) end
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
return how
`

// ARGV: owner, fence. Answer: 1 or 0.
const abortSource = `
local r = redis.call('HMGET', KEYS[1], 'st', 'own', 'tok')
if r[1] ~= 'P' or r[2] ~= ARGV[1] or r[3] ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
return 1
`

// scripts are sent by digest, with the text as soon as a server does not know
// it: after a restart, a failover or SCRIPT FLUSH.
type scripts struct{ begin, renew, complete, abort *redis.Script }

func newScripts() scripts {
	return scripts{
		begin:    redis.NewScript(beginSource),
		renew:    redis.NewScript(renewSource),
		complete: redis.NewScript(completeSource),
		abort:    redis.NewScript(abortSource),
	}
}
