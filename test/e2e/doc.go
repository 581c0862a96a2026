// Package e2e shows, from outside, that Ballast does what it promises: clients on a LAN and
// behind BGP routers reach Services of a cluster of package lab, with real routers, a
// real service proxy and a real control plane.
//
// The tests need root, the packages of tools/deps.sh, the binaries of `make kube`, `make build` and (the ladder test) `make
// ingress`, and the build tag e2e:
//
//	go test -tags e2e ./test/e2e
//
// Tests of one topology share a lab, because starting one takes longer than most tests; each
// removes its objects. BALLAST_LAB_LOGS names a folder that keeps the processes' logs. While
// the tests run, `bin/lab --name e2e status` and so on look into the lab.
package e2e
