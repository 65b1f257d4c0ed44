/** Tags as the operator types them. The pattern is the API's. */

const TAG = /^[a-z0-9][a-z0-9:_.-]{0,47}$/;
const MOST = 32;

/**
 * @returns the tags in order and once each, or why they cannot be.
 */
export function parseTags(text: string): { tags: string[] } | { problem: string } {
  const tags = [...new Set(text.split(/[\s,]+/).filter(Boolean))].sort();
  const wrong = tags.find((tag) => !TAG.test(tag));
  if (wrong !== undefined) {
    return {
      problem: `“${wrong}” cannot be a tag. Use small letters, digits and : _ . - , at most 48 of them.`,
    };
  }
  if (tags.length > MOST) return { problem: `At most ${MOST} tags; these are ${tags.length}.` };
  return { tags };
}
