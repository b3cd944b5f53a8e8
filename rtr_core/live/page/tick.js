/** A clock in a worker: it keeps time in a tab that is not seen, where the page's own may not. */
let timer = 0;
onmessage = ({ data: milliseconds }) => {
  clearInterval(timer);
  if (milliseconds) timer = setInterval(() => postMessage(0), milliseconds);
};
