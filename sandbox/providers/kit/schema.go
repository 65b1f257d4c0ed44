package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Type is the shape of a field's value.
type Type int

// The shapes a field can have.
const (
	String Type = iota
	Number
	Bool
	List
	Set // a list whose order means nothing
	Map
	Object
	Any
)

// Field is one property of a resource, a function or a provider's configuration.
type Field struct {
	Name     string
	Type     Type
	Required bool
	Computed bool // the API fills it in when the program leaves it out
	Output   bool // only ever set by the API
	Replace  bool // a change replaces the resource
	Secret   bool // an output that is always secret
	Shaped   bool // of what the API reports, only the parts that the program gave are kept
	Default  any
	Env      []string                // configuration only: where a missing value comes from
	Autoname int                     // longest generated name; 0: no generated name
	Elem     []Field                 // the fields of an Object, or of each object in a List or Set
	Stored   func(input any) any     // what the state keeps in place of the input
	Same     func(old, new any) bool // treats two different values as one
	Validate func(input any) (problem string)
}

// Failure is one mistake in a resource's inputs.
type Failure struct{ Property, Reason string }

const defaultsKey = "__defaults"

// check coerces, validates and completes inputs. Defaults that it fills in are listed under
// __defaults, so that a later check can tell them from values of the program.
func check(fields []Field, name string, seed []byte, olds, news Props) (Props, []Failure) {
	out, failures := checkObject(fields, "", news)
	defaulted := []any{}
	oldDefaults := olds.Strings(defaultsKey)
	for _, f := range fields {
		if _, set := out[f.Name]; set || f.Output {
			continue
		}
		switch {
		case f.Autoname > 0 && slices.Contains(oldDefaults, f.Name) && olds.Has(f.Name):
			out[f.Name] = olds[f.Name]
		case f.Autoname > 0:
			out[f.Name] = autoname(name, seed, f.Autoname)
		case f.Default != nil:
			out[f.Name] = f.Default
		default:
			continue
		}
		defaulted = append(defaulted, f.Name)
	}
	slices.SortFunc(defaulted, func(a, b any) int {
		if a.(string) < b.(string) {
			return -1
		}
		return 1
	})
	out[defaultsKey] = defaulted
	return out, failures
}

func checkObject(fields []Field, path string, in map[string]any) (Props, []Failure) {
	out := Props{}
	var failures []Failure
	for _, f := range fields {
		value, ok := in[f.Name]
		where := join(path, f.Name)
		if !ok || value == nil {
			if f.Required {
				failures = append(failures, Failure{where, fmt.Sprintf(
					"Missing required argument. The argument %q is required, but no definition was found.", f.Name)})
			}
			continue
		}
		accepted, more := f.accept(where, value)
		failures = append(failures, more...)
		out[f.Name] = accepted
	}
	for _, key := range slices.Sorted(maps.Keys(in)) {
		known := slices.ContainsFunc(fields, func(f Field) bool { return f.Name == key && !f.Output })
		if !known && key != defaultsKey && in[key] != nil {
			failures = append(failures, Failure{join(path, key), "Invalid or unknown key."})
		}
	}
	return out, failures
}

// accept coerces and validates one value.
func (f Field) accept(path string, in any) (any, []Failure) {
	out, failures := f.coerce(path, in)
	if f.Validate != nil && len(failures) == 0 && !containsUnknown(out) {
		if problem := f.Validate(out); problem != "" {
			failures = []Failure{{path, problem}}
		}
	}
	return out, failures
}

// coerce turns a value into the field's type where that loses nothing, as the official
// providers do: ids come as text and are wanted as numbers, and the other way round.
func (f Field) coerce(path string, in any) (any, []Failure) {
	if in == (Unknown{}) {
		return in, nil
	}
	wrong := func(want string) (any, []Failure) {
		return in, []Failure{{path, fmt.Sprintf("Expected %s, got %s.", want, typeName(in))}}
	}
	switch f.Type {
	case String:
		switch in.(type) {
		case string, float64, bool:
			return Props{"": in}.String(""), nil
		}
		return wrong("a string")
	case Number:
		switch v := in.(type) {
		case float64:
			return v, nil
		case string:
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				return n, nil
			}
		}
		return wrong("a number")
	case Bool:
		switch v := in.(type) {
		case bool:
			return v, nil
		case string:
			if b, err := strconv.ParseBool(v); err == nil {
				return b, nil
			}
		}
		return wrong("a boolean")
	case List, Set:
		list, ok := in.([]any)
		if !ok {
			return wrong("a list")
		}
		out := make([]any, len(list))
		var failures []Failure
		for i, item := range list {
			var more []Failure
			out[i], more = f.coerceItem(fmt.Sprintf("%s[%d]", path, i), item)
			failures = append(failures, more...)
		}
		return out, failures
	case Object:
		object, ok := in.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		return f.coerceItem(path, object)
	case Map:
		if _, ok := in.(map[string]any); !ok {
			return wrong("a map")
		}
	}
	return in, nil
}

func (f Field) coerceItem(path string, item any) (any, []Failure) {
	if f.Elem == nil {
		return item, nil
	}
	if item == (Unknown{}) {
		return item, nil
	}
	if len(f.Elem) == 1 && f.Elem[0].Name == "" { // a list of plain values
		return f.Elem[0].accept(path, item)
	}
	object, ok := item.(map[string]any)
	if !ok {
		return item, []Failure{{path, fmt.Sprintf("Expected an object, got %s.", typeName(item))}}
	}
	out, failures := checkObject(f.Elem, path, object)
	for _, nested := range f.Elem {
		if _, set := out[nested.Name]; !set && nested.Default != nil {
			out[nested.Name] = nested.Default
		}
	}
	return map[string]any(out), failures
}

// Items describes the plain values of a List or Set.
func Items(t Type) []Field { return []Field{{Type: t}} }

// OneOf is a validation: the value must be one of these.
func OneOf(allowed ...string) func(any) string {
	return func(in any) string {
		if text, ok := in.(string); ok && !slices.Contains(allowed, text) {
			return fmt.Sprintf("expected one of %q, got %q", allowed, text)
		}
		return ""
	}
}

func typeName(in any) string {
	switch in.(type) {
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("%T", in)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// autoname makes a name that is new for each resource and the same in preview and update:
// the engine's random seed lasts for both.
func autoname(name string, seed []byte, longest int) string {
	sum := sha256.Sum256(append([]byte(name+"\x00"), seed...))
	suffix := "-" + hex.EncodeToString(sum[:])[:7]
	if limit := longest - len(suffix); len(name) > limit {
		name = name[:limit]
	}
	return name + suffix
}
