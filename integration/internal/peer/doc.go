// Package peer brings up what the scenarios run against and with: Apache
// RocketMQ's name server and broker, this project's server, and the cache folder
// with the foreign programs, which is filled once by ordinary Maven and npm
// calls and keyed by version.
package peer
