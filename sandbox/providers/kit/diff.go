package kit

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// Change is one difference between what exists and what is wanted.
type Change struct {
	Path    string
	Field   string
	Kind    pulumirpc.PropertyDiff_Kind
	Replace bool
}

// diff compares the recorded state with wanted inputs. An input that is left out is a change
// only if the state holds something that the API did not choose by itself.
func diff(fields []Field, state, news Props) []Change {
	var changes []Change
	for _, f := range fields {
		if f.Output {
			continue
		}
		old, wanted := state[f.Name], news[f.Name]
		if wanted == nil && f.Computed {
			continue
		}
		if f.Stored != nil && wanted != nil && wanted != (Unknown{}) && f.equal(old, f.Stored(wanted)) {
			continue
		}
		if f.equal(old, wanted) {
			continue
		}
		for _, c := range f.paths(old, wanted) {
			c.Field, c.Replace = f.Name, f.Replace
			if f.Replace {
				c.Kind = replaceKind(c.Kind)
			}
			changes = append(changes, c)
		}
	}
	return changes
}

func (f Field) equal(old, wanted any) bool {
	if wanted == (Unknown{}) {
		return false
	}
	if f.Same != nil && f.Same(old, wanted) {
		return true
	}
	if isEmpty(old) && isEmpty(wanted) {
		return true
	}
	switch f.Type {
	case Object:
		oldObject, ok1 := old.(map[string]any)
		newObject, ok2 := wanted.(map[string]any)
		return ok1 && ok2 && f.equalObjects(oldObject, newObject)
	case List, Set:
		oldList, ok1 := old.([]any)
		newList, ok2 := wanted.([]any)
		if !ok1 || !ok2 || len(oldList) != len(newList) {
			return false
		}
		if f.Type == Set {
			oldList = f.alignItems(oldList, newList)
		}
		for i := range oldList {
			if !f.equalItems(oldList[i], newList[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(old, wanted)
}

func (f Field) equalItems(old, wanted any) bool {
	oldObject, ok1 := old.(map[string]any)
	newObject, ok2 := wanted.(map[string]any)
	if ok1 && ok2 && f.Elem != nil {
		return f.equalObjects(oldObject, newObject)
	}
	if f.Elem != nil {
		return f.Elem[0].equal(old, wanted)
	}
	return !containsUnknown(wanted) && reflect.DeepEqual(old, wanted)
}

func (f Field) equalObjects(old, wanted map[string]any) bool {
	if f.Elem == nil {
		return !containsUnknown(wanted) && reflect.DeepEqual(old, wanted)
	}
	for _, nested := range f.Elem {
		if nested.Output || (nested.Computed && wanted[nested.Name] == nil) {
			continue
		}
		if !nested.equal(old[nested.Name], wanted[nested.Name]) {
			return false
		}
	}
	return true
}

// alignItems puts the items of a set in the order of another set as far as they are the same,
// so that a server's own order shows up neither as a change nor as noise in one.
func (f Field) alignItems(items, order []any) []any {
	rest := slices.Clone(items)
	out := make([]any, 0, len(items))
	for _, wanted := range order {
		if i := slices.IndexFunc(rest, func(item any) bool { return f.equalItems(item, wanted) }); i >= 0 {
			out = append(out, rest[i])
			rest = slices.Delete(rest, i, i+1)
		}
	}
	return append(out, rest...)
}

// paths names the differing parts of one field.
func (f Field) paths(old, wanted any) []Change {
	kind := kindOf(old, wanted)
	oldObject, ok1 := old.(map[string]any)
	newObject, ok2 := wanted.(map[string]any)
	if kind == pulumirpc.PropertyDiff_UPDATE && ok1 && ok2 {
		keys := maps.Clone(oldObject)
		maps.Copy(keys, newObject)
		var changes []Change
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			nested := Field{Type: Any}
			if i := slices.IndexFunc(f.Elem, func(e Field) bool { return e.Name == key }); i >= 0 {
				nested = f.Elem[i]
			}
			if nested.Output || (nested.Computed && newObject[key] == nil) || nested.equal(oldObject[key], newObject[key]) {
				continue
			}
			changes = append(changes, Change{Path: f.Name + pathKey(key), Kind: kindOf(oldObject[key], newObject[key])})
		}
		return changes
	}
	oldList, ok1 := old.([]any)
	newList, ok2 := wanted.([]any)
	if kind == pulumirpc.PropertyDiff_UPDATE && ok1 && ok2 && len(oldList) == len(newList) {
		if f.Type == Set {
			oldList = f.alignItems(oldList, newList)
		}
		var changes []Change
		for i := range newList {
			if !f.equalItems(oldList[i], newList[i]) {
				changes = append(changes, Change{Path: fmt.Sprintf("%s[%d]", f.Name, i), Kind: kind})
			}
		}
		if f.Type == List {
			return changes
		}
	}
	return []Change{{Path: f.Name, Kind: kind}}
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func pathKey(key string) string {
	if plainKey.MatchString(key) {
		return "." + key
	}
	return fmt.Sprintf("[%q]", key)
}

func kindOf(old, wanted any) pulumirpc.PropertyDiff_Kind {
	switch {
	case old == nil:
		return pulumirpc.PropertyDiff_ADD
	case wanted == nil:
		return pulumirpc.PropertyDiff_DELETE
	}
	return pulumirpc.PropertyDiff_UPDATE
}

func replaceKind(kind pulumirpc.PropertyDiff_Kind) pulumirpc.PropertyDiff_Kind {
	switch kind {
	case pulumirpc.PropertyDiff_ADD:
		return pulumirpc.PropertyDiff_ADD_REPLACE
	case pulumirpc.PropertyDiff_DELETE:
		return pulumirpc.PropertyDiff_DELETE_REPLACE
	}
	return pulumirpc.PropertyDiff_UPDATE_REPLACE
}

// isEmpty: the vendors' APIs do not tell "not set" from "set to nothing".
func isEmpty(in any) bool {
	switch v := in.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// planned is what the state will hold: what was there, the wanted inputs over it, and on a
// creation the fields that only the API can tell as unknown.
func planned(fields []Field, state, news Props) Props {
	out := Props{}
	for _, f := range fields {
		wanted, given := news[f.Name]
		switch {
		case f.Output || (f.Computed && !given):
			if state == nil {
				out[f.Name] = Unknown{}
			} else if old := state[f.Name]; old != nil {
				out[f.Name] = old
			}
		case given && f.Stored != nil && wanted != (Unknown{}):
			if old, ok := state[f.Name]; ok && f.equal(old, wanted) {
				out[f.Name] = old
			} else {
				out[f.Name] = f.Stored(wanted)
			}
		case given:
			out[f.Name] = wanted
		}
	}
	return out
}

// observed is what the state holds after the API was asked: live values over the planned ones.
func observed(fields []Field, base, live, order Props) Props {
	out := Props{}
	for _, f := range fields {
		value, reported := live[f.Name]
		if !reported {
			value = base[f.Name]
			if value == (Unknown{}) {
				continue
			}
		}
		if shape := base[f.Name]; f.Shaped && shape != nil && shape != (Unknown{}) {
			value = project(value, shape)
		}
		if list, ok := value.([]any); ok && f.Type == Set {
			if wanted, ok := order[f.Name].([]any); ok {
				value = f.alignItems(list, wanted)
			}
		}
		if value != nil {
			out[f.Name] = value
		}
	}
	return out
}

// liveInputs brings recorded inputs up to what exists. Without recorded inputs (an import) it
// takes every input that the API reports and that differs from its default.
func liveInputs(fields []Field, inputs, state Props) Props {
	imported := len(inputs) == 0
	out := Props{}
	for _, f := range fields {
		if f.Output {
			continue
		}
		input, given := inputs[f.Name]
		live := state[f.Name]
		switch {
		case given && f.Stored != nil && f.equal(live, f.Stored(input)):
			out[f.Name] = input
		case given && f.equal(live, input):
			out[f.Name] = input
		case given && live != nil:
			out[f.Name] = live
		case imported && !isEmpty(live):
			out[f.Name] = live
		case !imported && !given && !f.Computed && !isEmpty(live):
			out[f.Name] = live
		}
	}
	if !imported {
		out[defaultsKey] = inputs[defaultsKey]
	} else {
		out[defaultsKey] = []any{}
	}
	return out
}

// project keeps of a live value what a shape has: APIs fill in parts that nobody asked for, and
// those must not look like a change. Items that the shape does not have at all stay visible.
func project(live, shape any) any {
	switch s := shape.(type) {
	case map[string]any:
		object, ok := live.(map[string]any)
		if !ok {
			return live
		}
		out := map[string]any{}
		for key, nested := range s {
			if value, ok := object[key]; ok {
				out[key] = project(value, nested)
			}
		}
		return out
	case []any:
		list, ok := live.([]any)
		if !ok {
			return live
		}
		out := make([]any, len(list))
		for i, item := range list {
			out[i] = item
			if i < len(s) {
				out[i] = project(item, s[i])
			}
		}
		return out
	}
	return live
}
