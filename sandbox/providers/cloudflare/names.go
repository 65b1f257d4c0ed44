package cloudflare

import (
	"regexp"
	"strings"

	"overlord/sandbox/providers/kit"
)

// Property names are camelCase here and snake_case in the API. Keys that are data, such as the
// names of HTTP headers and countries, are neither and stay as they are.
var (
	camelName = regexp.MustCompile(`^[a-z][a-z0-9]*([A-Z][a-z0-9]*)+$`)
	snakeName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)
	capital   = regexp.MustCompile(`[A-Z]`)
	lowDash   = regexp.MustCompile(`_[a-z0-9]`)
)

func toSnake(name string) string {
	if !camelName.MatchString(name) {
		return name
	}
	return capital.ReplaceAllStringFunc(name, func(c string) string { return "_" + strings.ToLower(c) })
}

func toCamel(name string) string {
	if !snakeName.MatchString(name) {
		return name
	}
	return lowDash.ReplaceAllStringFunc(name, func(c string) string { return strings.ToUpper(c[1:]) })
}

// rename applies a rule to the keys of nested objects.
func rename(in any, rule func(string) string) any {
	switch v := in.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			if item != nil {
				out[rule(key)] = rename(item, rule)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = rename(item, rule)
		}
		return out
	}
	return in
}

// toBody makes the JSON body of a request. What the program leaves to the API is sent as the API
// last reported it: its PUT replaces everything.
func toBody(fields []kit.Field, state, in kit.Props, without ...string) map[string]any {
	skipped := map[string]bool{}
	for _, name := range without {
		skipped[name] = true
	}
	body := map[string]any{}
	for _, f := range fields {
		value := in[f.Name]
		if value == nil && f.Computed {
			value = state[f.Name]
		}
		if value == nil || f.Output || skipped[f.Name] {
			continue
		}
		if f.Type != kit.Map {
			value = rename(value, toSnake)
		}
		body[toSnake(f.Name)] = value
	}
	return body
}

// toLive reads the properties out of an object of the API.
func toLive(fields []kit.Field, object map[string]any, without ...string) kit.Props {
	skipped := map[string]bool{}
	for _, name := range without {
		skipped[name] = true
	}
	live := kit.Props{}
	for _, f := range fields {
		value, ok := object[toSnake(f.Name)]
		if !ok || skipped[f.Name] {
			continue
		}
		if f.Type != kit.Map {
			value = rename(value, toCamel)
		}
		live[f.Name] = value
	}
	return live
}
