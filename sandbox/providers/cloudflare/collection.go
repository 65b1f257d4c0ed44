package cloudflare

import (
	"fmt"
	"net/http"
	"strings"

	"overlord/sandbox/providers/kit"
)

// collection describes objects that are made, read, replaced and deleted under one path.
type collection struct {
	token  string
	fields []kit.Field
	// scope is the property that says where the objects lie, and where its path starts.
	scope, root string
	path        string
	replaced    bool // any change makes a new object
	// adapt changes what the API calls otherwise than the provider's properties.
	toAPI, fromAPI func(map[string]any)
}

func (k collection) resource() kit.Resource[*client] {
	fields := k.fields
	if k.scope != "" {
		fields = append([]kit.Field{{Name: k.scope, Type: kit.String, Required: true, Replace: true}}, fields...)
	}
	r := kit.Resource[*client]{
		Token:  k.token,
		Fields: fields,

		Create: func(c *call, in kit.Props) (kit.Result, error) {
			made, err := c.Client.object(c, http.MethodPost, k.at(in.String(k.scope)), k.body(nil, in))
			if err != nil {
				return kit.Result{}, err
			}
			return k.result(made, in.String(k.scope)), nil
		},

		Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
			scope := state.String(k.scope)
			if k.scope != "" && scope == "" {
				var err error
				if scope, id, err = k.imported(id); err != nil {
					return kit.Result{}, err
				}
			}
			found, err := c.Client.object(c, http.MethodGet, k.at(scope)+"/"+id, nil)
			if gone(err) {
				return kit.Result{}, nil
			}
			if err != nil {
				return kit.Result{}, err
			}
			return k.result(found, scope), nil
		},

		Delete: func(c *call, id string, state kit.Props) error {
			_, err := c.Client.do(c, http.MethodDelete, k.at(state.String(k.scope))+"/"+id, nil)
			return err
		},
	}
	if !k.replaced {
		r.Update = func(c *call, id string, state, in kit.Props, _ func(string) bool) (kit.Result, error) {
			changed, err := c.Client.object(c, http.MethodPut, k.at(in.String(k.scope))+"/"+id, k.body(state, in))
			if err != nil {
				return kit.Result{}, err
			}
			return k.result(changed, in.String(k.scope)), nil
		}
	}
	return r
}

func (k collection) at(scope string) string {
	if k.scope == "" {
		return k.path
	}
	return k.root + "/" + scope + "/" + k.path
}

func (k collection) body(state, in kit.Props) map[string]any {
	body := toBody(k.fields, state, in)
	if k.toAPI != nil {
		k.toAPI(body)
	}
	return body
}

func (k collection) result(object map[string]any, scope string) kit.Result {
	id, _ := object["id"].(string)
	if k.fromAPI != nil {
		k.fromAPI(object)
	}
	live := toLive(k.fields, object)
	if k.scope != "" {
		live[k.scope] = scope
	}
	return kit.Result{ID: id, Live: live}
}

// imported splits the id of an import, SCOPE/ID.
func (k collection) imported(id string) (scope, own string, err error) {
	scope, own, found := strings.Cut(strings.TrimPrefix(id, k.root+"/"), "/")
	if !found {
		return "", "", fmt.Errorf("%q cannot be imported: write it as <%s>/<id>", id, toSnake(k.scope))
	}
	return scope, own, nil
}
