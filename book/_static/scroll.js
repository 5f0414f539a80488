/* A figure or a table that scrolls inside its own box is a stop of the Tab key, so that it can be scrolled without a mouse.
   The theme does the same for code. */
const markScrolling = () => {
  for (const figure of document.querySelectorAll("article figure, .pst-scrollable-table-container")) {
    if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
  }
};
addEventListener("load", markScrolling);
addEventListener("resize", markScrolling);
