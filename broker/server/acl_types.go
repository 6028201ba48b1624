package server

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// form is what a member of the file has to be.
type form struct {
	is     func(n *yaml.Node) bool
	accept string
}

// forms are those of an account.
func forms() map[string]form {
	text := func(accept string) form { return form{isText, accept} }
	return map[string]form{
		"accessKey": text("a text"), "secretKey": text("a text"), "whiteRemoteAddress": text("a text of addresses with commas between, such as 10.0.0.1,10.0.1.*"),
		"admin":            {func(n *yaml.Node) bool { return n.Decode(new(bool)) == nil }, "true or false"},
		"defaultTopicPerm": text("DENY, PUB, SUB or PUB|SUB"), "defaultGroupPerm": text("DENY, PUB, SUB or PUB|SUB"),
		"topicPerms": {isTexts, "a list, such as [orders=PUB|SUB, audit=PUB]"},
		"groupPerms": {isTexts, "a list, such as [billing=SUB, archive=DENY]"},
	}
}

// wrongTypes says of each member of the file that is of another type than it has
// to be which one that is, whose it is, and what it takes. The parser would name
// no more than the line. It answers nothing for a file that is otherwise wrong, and
// no values, which may be secrets.
func wrongTypes(data []byte) []string {
	var file yaml.Node
	if yaml.Unmarshal(data, &file) != nil || len(file.Content) == 0 {
		return nil
	}
	var wrong []string
	say := func(n *yaml.Node, whose, name, accept string) {
		wrong = append(wrong, fmt.Sprintf("line %d: %s%s takes %s", n.Line, whose, name, accept))
	}
	if top := file.Content[0]; top.Kind != yaml.MappingNode && top.Tag != "!!null" {
		say(top, "", "the file", "a map with accounts and globalWhiteRemoteAddresses, each with a colon and a list behind it")
	}
	for name, n := range members(file.Content[0]) {
		switch {
		case name == "globalWhiteRemoteAddresses" && !isTexts(n):
			say(n, "", name, "a list of addresses, such as [10.0.0.1, 10.0.1.*]")
		case name != "accounts":
		case n.Kind != yaml.SequenceNode:
			if n.Tag != "!!null" {
				say(n, "", name, "a list of accounts, each with accessKey and secretKey")
			}
		default:
			for i, one := range n.Content {
				wrongAccount(resolved(one), i+1, say)
			}
		}
	}
	return wrong
}

// wrongAccount says what is wrong with the types of one account.
func wrongAccount(n *yaml.Node, number int, say func(n *yaml.Node, whose, name, accept string)) {
	if n.Kind != yaml.MappingNode {
		if n.Tag != "!!null" {
			say(n, "", fmt.Sprintf("account %d", number), "members such as accessKey and secretKey, each with a colon")
		}
		return
	}
	whose := fmt.Sprintf("account %d: ", number)
	for name, m := range members(n) {
		if name == "accessKey" && isText(m) {
			whose = fmt.Sprintf("account %d (%.64q): ", number, m.Value)
		}
	}
	known := forms()
	for name, m := range members(n) {
		if f, ok := known[name]; ok && !f.is(m) {
			say(m, whose, name, f.accept)
		}
	}
}

// members goes through the members of a mapping; there are none of anything else.
func members(n *yaml.Node) func(yield func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, resolved(n.Content[i+1])) {
				return
			}
		}
	}
}

// resolved is what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// isText: numbers are read as they are written, and nothing as an empty text.
func isText(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode }

func isTexts(n *yaml.Node) bool {
	if n.Kind != yaml.SequenceNode {
		return n.Tag == "!!null"
	}
	for _, item := range n.Content {
		if !isText(resolved(item)) {
			return false
		}
	}
	return true
}
