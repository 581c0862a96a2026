// Package storm breaks a lab at random and judges what clients see of it.
//
// A plan (Plan) is made from a seed: rounds of faults in random order and overlap, each with a calm after it in which
// everything must be right again. The same seed makes the same plan. While a round runs, a witness on each network
// asks every 100 ms for every Service address and notes who answers, a client opens connections, and the Announced
// conditions are read every second (Round). From that and from the times of the faults, Judge, a pure function, finds
// each time with two owners, with none, and with an untrue condition, that was longer than what was going on excuses.
//
// It never looks at what Ballast says of itself, other than at the conditions, which are what is judged.
package storm
