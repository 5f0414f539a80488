/* A figure drawn much smaller than it was made has a button above it, "Enlarge": at its own size it scrolls in its box.
   The button stays in sight while it does, and says so. A tap on the picture does the same. */
const SMALL = 0.75; // of its own width: below that the letters of a figure are hard to read

const addButton = (figure, picture) => {
  const button = document.createElement("button");
  const write = (large) => { button.textContent = large ? "Fit to the page (scroll sideways for the rest)" : "Enlarge"; };
  const press = () => {
    write(figure.classList.toggle("enlarged"));
    figure.scrollLeft = 0;
    markScrolling();
  };
  button.type = "button";
  button.className = "enlarge";
  button.addEventListener("click", press);
  picture.addEventListener("click", () => button.hidden || press());
  write(false);
  picture.before(button);
  return button;
};

const offerSizes = () => {
  for (const figure of document.querySelectorAll("article figure")) {
    const picture = figure.querySelector("img");
    if (!picture || !picture.clientWidth || figure.matches(".enlarged")) continue;
    const small = picture.clientWidth < SMALL * picture.naturalWidth;
    const button = figure.querySelector(".enlarge") ?? (small ? addButton(figure, picture) : null);
    if (button) button.hidden = !small;
  }
};

/* A figure or a table that scrolls inside its own box is a stop of the Tab key, so that it can be scrolled without a mouse.
   The theme does the same for code. */
const markScrolling = () => {
  for (const figure of document.querySelectorAll("article figure, .pst-scrollable-table-container")) {
    if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
  }
};

for (const event of ["load", "resize"]) {
  addEventListener(event, offerSizes);
  addEventListener(event, markScrolling);
}
