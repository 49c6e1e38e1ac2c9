// Counts the words of a text; asked to stream, it sends one line for each word, as they are counted.
const words = (event) => {
  if (typeof event.text !== 'string') throw new TypeError('the event has no text');
  return event.text.split(/\s+/).filter(Boolean);
};

async function* lines(event) {
  const counts = new Map();
  for (const word of words(event)) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
    yield `${word} ${counts.get(word)}\n`;
  }
}

export async function handler(event) {
  if (event.stream) return lines(event);
  const found = words(event);
  return { words: found.length, distinct: new Set(found).size };
}
