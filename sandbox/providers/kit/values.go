package kit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"
)

// The engine's wire signatures for values that JSON cannot carry.
const (
	sigKey       = "4dabf18193072939515e22adb298388d"
	sigSecret    = "1b47061264138c4ac30d75fd1eb44270"
	sigAsset     = "c44067f5952c0a294b673a41bacd8c17"
	sigArchive   = "0def7320c3a5731c473e5ecbe6d01bc7"
	unknownValue = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
)

// The engine has one sentinel a type; every one of them means "not known yet".
var unknownValues = []string{
	unknownValue,
	"1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
	"3eeb2bf0-c639-47a8-9e75-3b44932eb421",
	"6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
	"030794c1-ac77-496b-92df-f27374a8bd58",
	"e48ece36-62e2-4504-bad9-02848725956a",
	"dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}

// Unknown is a value that a preview cannot know yet.
type Unknown struct{}

// Secret wraps a value that must stay encrypted in the state and hidden in every display.
type Secret struct{ Value any }

// Props is an object of plain values: nil, bool, float64, string, []any, map[string]any, Unknown.
// Secrets are taken off before a resource sees its properties and put back afterwards.
type Props map[string]any

// Has tells whether the property is present and known.
func (p Props) Has(name string) bool {
	v, ok := p[name]
	return ok && v != nil && v != Unknown{}
}

// String returns the property as text, or "" when it is absent.
func (p Props) String(name string) string {
	switch v := p[name].(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// Int returns the property as an integer, or 0 when it is absent.
func (p Props) Int(name string) int64 {
	switch v := p[name].(type) {
	case float64:
		return int64(v)
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

// Bool returns the property, or false when it is absent.
func (p Props) Bool(name string) bool {
	v, _ := p[name].(bool)
	return v
}

// Strings returns a list property as texts.
func (p Props) Strings(name string) []string {
	list, _ := p[name].([]any)
	out := make([]string, 0, len(list))
	for _, item := range list {
		out = append(out, Props{"": item}.String(""))
	}
	return out
}

// Ints returns a list property as integers.
func (p Props) Ints(name string) []int64 {
	list, _ := p[name].([]any)
	out := make([]int64, 0, len(list))
	for _, item := range list {
		out = append(out, Props{"": item}.Int(""))
	}
	return out
}

// StringMap returns a map property as texts; nil when it is absent.
func (p Props) StringMap(name string) map[string]string {
	object, ok := p[name].(map[string]any)
	if !ok {
		return nil
	}
	out := make(map[string]string, len(object))
	for key, value := range object {
		out[key] = Props{"": value}.String("")
	}
	return out
}

// Object returns a nested object; nil when it is absent.
func (p Props) Object(name string) Props {
	object, _ := p[name].(map[string]any)
	return object
}

// Objects returns a list of nested objects.
func (p Props) Objects(name string) []Props {
	list, _ := p[name].([]any)
	out := make([]Props, 0, len(list))
	for _, item := range list {
		if object, ok := item.(map[string]any); ok {
			out = append(out, object)
		}
	}
	return out
}

// Numbers makes a list property out of integers.
func Numbers(values []int64) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// Texts makes a list property out of texts.
func Texts(values []string) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

// TextMap makes a map property out of texts.
func TextMap(values map[string]string) map[string]any {
	out := make(map[string]any, len(values))
	for k, v := range values {
		out[k] = v
	}
	return out
}

// Decode reads an engine object. Secrets stay wrapped.
func Decode(in *structpb.Struct) map[string]any {
	out := make(map[string]any, len(in.GetFields()))
	for key, value := range in.GetFields() {
		out[key] = decodeValue(value)
	}
	return out
}

func decodeValue(in *structpb.Value) any {
	switch v := in.GetKind().(type) {
	case *structpb.Value_BoolValue:
		return v.BoolValue
	case *structpb.Value_NumberValue:
		return v.NumberValue
	case *structpb.Value_StringValue:
		if slices.Contains(unknownValues, v.StringValue) {
			return Unknown{}
		}
		return v.StringValue
	case *structpb.Value_ListValue:
		list := make([]any, len(v.ListValue.GetValues()))
		for i, item := range v.ListValue.GetValues() {
			list[i] = decodeValue(item)
		}
		return list
	case *structpb.Value_StructValue:
		object := Decode(v.StructValue)
		if object[sigKey] == sigSecret {
			return Secret{object["value"]}
		}
		return object
	}
	return nil
}

// Encode writes an engine object; nil values are left out.
func Encode(in map[string]any) (*structpb.Struct, error) {
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(in))}
	for key, value := range in {
		if value == nil {
			continue
		}
		encoded, err := encodeValue(value)
		if err != nil {
			return nil, fmt.Errorf("property %q: %w", key, err)
		}
		out.Fields[key] = encoded
	}
	return out, nil
}

func encodeValue(in any) (*structpb.Value, error) {
	switch v := in.(type) {
	case nil:
		return structpb.NewNullValue(), nil
	case bool:
		return structpb.NewBoolValue(v), nil
	case float64:
		return structpb.NewNumberValue(v), nil
	case int:
		return structpb.NewNumberValue(float64(v)), nil
	case int64:
		return structpb.NewNumberValue(float64(v)), nil
	case string:
		return structpb.NewStringValue(v), nil
	case Unknown:
		return structpb.NewStringValue(unknownValue), nil
	case Secret:
		return encodeValue(map[string]any{sigKey: sigSecret, "value": v.Value})
	case []any:
		list := &structpb.ListValue{Values: make([]*structpb.Value, len(v))}
		for i, item := range v {
			encoded, err := encodeValue(item)
			if err != nil {
				return nil, err
			}
			list.Values[i] = encoded
		}
		return structpb.NewListValue(list), nil
	case Props:
		return encodeValue(map[string]any(v))
	case map[string]any:
		object, err := Encode(v)
		if err != nil {
			return nil, err
		}
		return structpb.NewStructValue(object), nil
	}
	return nil, fmt.Errorf("a value of type %T cannot be sent to the engine", in)
}

// strip takes the secret wrappers off.
func strip(in any) any {
	switch v := in.(type) {
	case Secret:
		return strip(v.Value)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = strip(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = strip(item)
		}
		return out
	}
	return in
}

func stripProps(in map[string]any) Props {
	return strip(in).(map[string]any)
}

// annotate puts secret wrappers on the values of out whose counterpart in like carries one.
func annotate(out, like any) any {
	if _, wrapped := out.(Secret); wrapped || out == nil {
		return out
	}
	switch l := like.(type) {
	case Secret:
		return Secret{out}
	case map[string]any:
		object, ok := out.(map[string]any)
		if !ok {
			return out
		}
		copied := maps.Clone(object)
		for key, item := range object {
			copied[key] = annotate(item, l[key])
		}
		return copied
	case []any:
		list, ok := out.([]any)
		if !ok {
			return out
		}
		// A list whose order or length may have moved is covered as a whole: one
		// secret item makes all of them secret.
		for _, item := range l {
			if containsSecret(item) {
				return Secret{list}
			}
		}
	}
	return out
}

func annotateProps(out map[string]any, likes ...map[string]any) map[string]any {
	for _, like := range likes {
		out = annotate(map[string]any(out), like).(map[string]any)
	}
	return out
}

func containsSecret(in any) bool {
	switch v := in.(type) {
	case Secret:
		return true
	case []any:
		return slices.ContainsFunc(v, containsSecret)
	case map[string]any:
		for _, item := range v {
			if containsSecret(item) {
				return true
			}
		}
	}
	return false
}

func containsUnknown(in any) bool {
	switch v := in.(type) {
	case Unknown:
		return true
	case Secret:
		return containsUnknown(v.Value)
	case []any:
		return slices.ContainsFunc(v, containsUnknown)
	case map[string]any:
		for _, item := range v {
			if containsUnknown(item) {
				return true
			}
		}
	}
	return false
}
