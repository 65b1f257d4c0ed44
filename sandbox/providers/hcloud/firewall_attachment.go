package hcloud

import (
	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

var firewallAttachment = kit.Resource[*hcloud.Client]{
	Token: "hcloud:index/firewallAttachment:FirewallAttachment",
	Fields: []kit.Field{
		{Name: "firewallId", Type: kit.Number, Required: true, Replace: true},
		{Name: "serverIds", Type: kit.Set, Elem: kit.Items(kit.Number)},
		{Name: "labelSelectors", Type: kit.Set, Elem: kit.Items(kit.String)},
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		id := in.Int("firewallId")
		if err := moveFirewall(c, id, nil, attachmentTargets(in)); err != nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: formatID(id)}, nil
	},

	Read: func(c *call, id string, _ kit.Props) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		found, _, err := c.Client.Firewall.GetByID(c, number)
		if err != nil || found == nil || len(found.AppliedTo) == 0 {
			return kit.Result{}, err
		}
		var servers []int64
		var selectors []string
		for _, target := range found.AppliedTo {
			switch target.Type {
			case hcloud.FirewallResourceTypeServer:
				servers = append(servers, target.Server.ID)
			case hcloud.FirewallResourceTypeLabelSelector:
				selectors = append(selectors, target.LabelSelector.Selector)
			}
		}
		return kit.Result{ID: id, Live: kit.Props{
			"firewallId": float64(number), "serverIds": kit.Numbers(servers), "labelSelectors": kit.Texts(selectors),
		}}, nil
	},

	Update: func(c *call, id string, state, in kit.Props, _ func(string) bool) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		return kit.Result{}, moveFirewall(c, number, attachmentTargets(state), attachmentTargets(in))
	},

	Delete: deleteByID(func(c *call, id int64, state kit.Props) error {
		return moveFirewall(c, id, attachmentTargets(state), nil)
	}),
}

func attachmentTargets(in kit.Props) []hcloud.FirewallResource {
	var out []hcloud.FirewallResource
	for _, id := range in.Ints("serverIds") {
		out = append(out, serverTarget(id))
	}
	for _, selector := range in.Strings("labelSelectors") {
		out = append(out, selectorTarget(selector))
	}
	return out
}
