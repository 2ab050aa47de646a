/** JSON for people: an object's fields on lines of their own, lists of plain values on one. Pure. */

export function readableJson(value: unknown, indent = ''): string {
  const deeper = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.every(isPlain)) {
      return `[${value.map(one => JSON.stringify(one)).join(', ')}]`;
    }
    const items = value.map(one => deeper + readableJson(one, deeper));
    return `[\n${items.join(',\n')}\n${indent}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const fields = Object.entries(value).map(
      ([name, field]) =>
        `${deeper}${JSON.stringify(name)}: ${readableJson(field, deeper)}`
    );
    return fields.length ? `{\n${fields.join(',\n')}\n${indent}}` : '{}';
  }
  return JSON.stringify(value) ?? 'null';
}

function isPlain(value: unknown): boolean {
  return typeof value !== 'object' || value === null;
}
