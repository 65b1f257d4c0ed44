package cloudflare

import (
	"fmt"
	"net/http"
	"strings"

	"overlord/sandbox/providers/kit"
)

var customDomainFields = []kit.Field{
	{Name: "hostname", Type: kit.String, Required: true},
	{Name: "service", Type: kit.String, Required: true},
	{Name: "zoneId", Type: kit.String, Computed: true},
	{Name: "zoneName", Type: kit.String, Computed: true},
	{Name: "environment", Type: kit.String, Computed: true},
	{Name: "certId", Type: kit.String, Output: true},
}

var workersCustomDomain = kit.Resource[*client]{
	Token: "cloudflare:index/workersCustomDomain:WorkersCustomDomain",
	Fields: append([]kit.Field{
		{Name: "accountId", Type: kit.String, Required: true, Replace: true},
	}, customDomainFields...),

	// The API has one call for both: it attaches the name, or moves it.
	Create: func(c *call, in kit.Props) (kit.Result, error) { return attachDomain(c, in) },

	Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
		account := state.String("accountId")
		if account == "" {
			var found bool
			if account, id, found = strings.Cut(id, "/"); !found {
				return kit.Result{}, fmt.Errorf("%q cannot be imported: write it as <account_id>/<domain_id>", account)
			}
		}
		found, err := c.Client.object(c, http.MethodGet, "accounts/"+account+"/workers/domains/"+id, nil)
		if gone(err) {
			return kit.Result{}, nil
		}
		if err != nil {
			return kit.Result{}, err
		}
		return domainResult(found, account), nil
	},

	Update: func(c *call, _ string, _, in kit.Props, _ func(string) bool) (kit.Result, error) {
		return attachDomain(c, in)
	},

	Delete: func(c *call, id string, state kit.Props) error {
		_, err := c.Client.do(c, http.MethodDelete, "accounts/"+state.String("accountId")+"/workers/domains/"+id, nil)
		return err
	},
}

func attachDomain(c *call, in kit.Props) (kit.Result, error) {
	account := in.String("accountId")
	made, err := c.Client.object(c, http.MethodPut, "accounts/"+account+"/workers/domains", toBody(customDomainFields, nil, in))
	if err != nil {
		return kit.Result{}, err
	}
	return domainResult(made, account), nil
}

func domainResult(found map[string]any, account string) kit.Result {
	id, _ := found["id"].(string)
	live := toLive(customDomainFields, found)
	live["accountId"] = account
	return kit.Result{ID: id, Live: live}
}
