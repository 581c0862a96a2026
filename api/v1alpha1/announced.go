package v1alpha1

import "strings"

// AnswersOn is how a message of the condition Announced begins when a node answers in layer 2 for a
// Service, on some interfaces. Programs read it back with Answering.
func AnswersOn(node string, interfaces []string) string {
	return "Node " + node + " answers on " + strings.Join(interfaces, ", ") + "."
}

// Answering returns the node that a message of the condition Announced names as the one that answers
// in layer 2; "": it names none.
func Answering(message string) string {
	rest, is := strings.CutPrefix(message, "Node ")
	node, _, found := strings.Cut(rest, " answers on ")
	if !is || !found || strings.ContainsAny(node, " \t\n") {
		return ""
	}
	return node
}
