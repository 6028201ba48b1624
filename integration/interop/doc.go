// Package interop runs clients that nobody here wrote against Apache RocketMQ
// and against this project's server, side by side.
//
// Every scenario is written once. It runs with each client that can do it, on
// each target, and counts only if it passes on both. What the client saw is
// noted as a record: events with fields, such as the properties of a delivery,
// the offset of a send or the wait before a redelivery, with identifiers and
// times replaced by what is demanded of them. The record of one side is compared
// with that of the other field by field; a difference that is meant is a row of
// Differences, with its reason, and a row that no longer differs is a failure
// too. Apache's record is kept in testdata, so that the comparison also works
// where there is no JVM.
//
// Without variables of the environment only Apache's Go client runs, on our
// server. These choose something else:
//
//	SLUICE_INTEROP=1         every client on both servers, which make interop does;
//	                         it takes Java, Maven and Node
//	SLUICE_INTEROP_CLIENTS   these clients, with commas between: go, java-5, java-4,
//	                         spring, node, mqadmin
//	SLUICE_INTEROP_ONLY      what matches this regular expression on
//	                         scenario/client, such as ^(tags|batch)/ or /java-5$
//	SLUICE_INTEROP_TARGETS   this server: apache (which takes SLUICE_INTEROP=1) or
//	                         ours
//
// For example, two scenarios with one client on our server:
//
//	SLUICE_INTEROP_ONLY='^(tags|batch)/go$' go test -count=1 ./interop
//
// Scenario access runs behind outage only. Names that there are not, and a
// choice of nothing at all, are failures that name what there is.
package interop
