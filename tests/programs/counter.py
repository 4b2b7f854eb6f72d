import persist
root = persist.root()
root.lockExcl()
try:
    root['x'] += 1            # increment counter
except KeyError:
    root['x'] = 1             # first pass; initialize
print("Content-type: text/html\n")
print("<p>You are visitor " + str(root['x']) + " to visit this site!</p>")
root.unlock()
