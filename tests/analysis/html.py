"""Reads a page as strictly as the tests need: every element closed, every text where it stands."""

from html.parser import HTMLParser

WITHOUT_END = {"br", "img", "link", "meta"}


class Page(HTMLParser):
    """The elements and texts of a page: `elements` as (tag, attributes), `text` as one string."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.parts, self._open = [], [], []
        self.feed(source)
        self.close()
        assert not self._open, f"never closed: {self._open}"
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in WITHOUT_END:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.parts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]
